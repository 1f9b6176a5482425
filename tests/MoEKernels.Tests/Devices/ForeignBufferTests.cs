namespace MoEKernels.Tests;

/// <summary>A buffer of one device beside a buffer or a stream of another, from either side.</summary>
[Category(TestDevice.Gpu)]
public sealed class ForeignBufferTests
{
    [TestCase(MoeDeviceType.Cuda, MoeDeviceType.Cpu)]
    [TestCase(MoeDeviceType.Cpu, MoeDeviceType.Cuda)]
    public void AnotherDevice_IsRefused(MoeDeviceType own, MoeDeviceType other)
    {
        using MoeContext context = TestDevice.Open(own), foreign = TestDevice.Open(other);
        using DeviceBuffer<int> here = new(context, [1]), there = new(foreign, [2]);
        using CudaStream stream = new(foreign);

        Assert.Multiple(() =>
        {
            Assert.That(() => here.CopyToDevice(there), Wrong("destination"));
            Assert.That(() => here.CopyFrom([1], stream: stream), Wrong("stream"));
            Assert.That(() => here.CopyTo(new int[1], stream: stream), Wrong("stream"));
            Assert.That(() => here.Clear(stream), Wrong("stream"));
            Assert.That(here.ToArray(), Is.EqualTo(new[] { 1 }));
            Assert.That(there.ToArray(), Is.EqualTo(new[] { 2 }));
        });

        NUnit.Framework.Constraints.IResolveConstraint Wrong(string name) =>
            Throws.ArgumentException.With.Message.Contains($"{name}: got one on {other} 0, expected one on {own} 0");
    }
}
