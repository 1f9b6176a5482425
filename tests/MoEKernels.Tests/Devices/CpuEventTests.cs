namespace MoEKernels.Tests;

/// <summary>What events measure on the CPU only: those of a GPU time its own work, and it has none while the host sleeps.</summary>
public sealed class CpuEventTests
{
    [Test]
    public void Elapsed_IsAtLeastWhatWasSlept()
    {
        using MoeContext context = TestDevice.Open(MoeDeviceType.Cpu);
        using CudaEvent start = new(context), end = new(context);

        start.Record();
        Thread.Sleep(5);
        end.Record();

        Assert.That(end.ElapsedSince(start), Is.GreaterThanOrEqualTo(TimeSpan.FromMilliseconds(4.9)));
    }
}
