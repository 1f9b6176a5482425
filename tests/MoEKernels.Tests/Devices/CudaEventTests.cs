namespace MoEKernels.Tests;

[TestFixture(MoeDeviceType.Cpu)]
[TestFixture(MoeDeviceType.Cuda, Category = TestDevice.Gpu)]
public sealed class CudaEventTests(MoeDeviceType type)
{
    private MoeContext _context = null!;

    [OneTimeSetUp]
    public void Open() => _context = TestDevice.Open(type);

    [OneTimeTearDown]
    public void Close() => _context?.Dispose();

    [Test]
    public void Elapsed_IsTheTimeBetweenTwoEvents()
    {
        using CudaStream stream = new(_context);
        using DeviceBuffer<byte> memory = new(_context, 1 << 20);
        using CudaEvent start = new(_context), end = new(_context);

        start.Record(stream);
        memory.Clear(stream);
        end.Record(stream);
        end.Synchronize();

        Assert.That(end.ElapsedSince(start), Is.GreaterThanOrEqualTo(TimeSpan.Zero));
        Assert.That(start.ElapsedSince(end), Is.LessThanOrEqualTo(TimeSpan.Zero));
        Assert.That(start.ElapsedSince(start), Is.EqualTo(TimeSpan.Zero));
    }

    [Test]
    public void Elapsed_OfAnEventThatWasNeverRecorded_IsAnError()
    {
        using CudaEvent recorded = new(_context), fresh = new(_context);
        recorded.Record();

        Assert.Multiple(() =>
        {
            Assert.That(() => recorded.ElapsedSince(fresh), Throws.ArgumentException.With.Message.Contains("start"));
            Assert.That(() => fresh.ElapsedSince(recorded), Throws.ArgumentException.With.Message.Contains("end"));
            Assert.That(() => recorded.ElapsedSince(null!), Throws.ArgumentNullException);
            Assert.That(fresh.Synchronize, Throws.Nothing);
        });
    }

    [Test]
    public void Wait_OrdersTwoStreams()
    {
        using CudaStream producer = new(_context), consumer = new(_context);
        using CudaEvent ready = new(_context);
        using DeviceBuffer<int> buffer = new(_context, [4, 4]);
        using DeviceBuffer<int> copy = new(_context, [0, 0]);

        buffer.Clear(producer);
        ready.Record(producer);
        consumer.Wait(ready);
        buffer.CopyToDevice(copy, stream: consumer);

        Assert.That(copy.ToArray(consumer), Is.All.Zero);
        Assert.That(() => consumer.Wait(null!), Throws.ArgumentNullException);
    }

    [Test]
    public void AnotherContext_IsRefused()
    {
        using MoeContext other = TestDevice.Open(type);
        using CudaEvent here = new(_context), there = new(other);
        using CudaStream stream = new(_context);
        here.Record();
        there.Record();

        Assert.Multiple(() =>
        {
            Assert.That(() => here.ElapsedSince(there),
                Throws.ArgumentException.With.Message.Contains("start: got one of another context"));
            Assert.That(() => stream.Wait(there),
                Throws.ArgumentException.With.Message.Contains("event: got one of another context"));
        });
    }

    [Test]
    public void Disposed_Throws()
    {
        CudaEvent disposed = new(_context);
        using CudaEvent other = new(_context);
        using CudaStream stream = new(_context);
        other.Record();
        disposed.Dispose();
        disposed.Dispose();

        Assert.Multiple(() =>
        {
            Assert.That(() => disposed.Record(), Throws.InstanceOf<ObjectDisposedException>());
            Assert.That(disposed.Synchronize, Throws.InstanceOf<ObjectDisposedException>());
            Assert.That(() => disposed.ElapsedSince(other), Throws.InstanceOf<ObjectDisposedException>());
            Assert.That(() => other.ElapsedSince(disposed), Throws.InstanceOf<ObjectDisposedException>());
            Assert.That(() => stream.Wait(disposed), Throws.InstanceOf<ObjectDisposedException>());
        });
    }
}
