namespace MoEKernels.Tests;

[TestFixture(MoeDeviceType.Cpu)]
[TestFixture(MoeDeviceType.Cuda, Category = TestDevice.Gpu)]
public sealed class CudaStreamTests(MoeDeviceType type)
{
    private MoeContext _context = null!;

    [OneTimeSetUp]
    public void Open() => _context = TestDevice.Open(type);

    [OneTimeTearDown]
    public void Close() => _context?.Dispose();

    [Test]
    public void Handle_IsZeroOnTheCpuAlone()
    {
        using CudaStream stream = new(_context);

        Assert.That(stream.Handle == 0, Is.EqualTo(type == MoeDeviceType.Cpu));
        Assert.That(stream.Context, Is.SameAs(_context));
        Assert.That(stream.Synchronize, Throws.Nothing);
    }

    [Test]
    public void FromHandle_NeverDestroysTheStream()
    {
        using CudaStream stream = new(_context);
        using DeviceBuffer<int> buffer = new(_context, [1, 2]);

        using (CudaStream same = CudaStream.FromHandle(_context, stream.Handle))
        {
            Assert.That(same.Handle, Is.EqualTo(stream.Handle));
            buffer.Clear(same);
        }

        Assert.That(buffer.ToArray(stream), Is.All.Zero);
    }

    [Test]
    public void FromHandle_WithoutHandle_IsTheDefaultStream()
    {
        using CudaStream stream = CudaStream.FromHandle(_context);

        Assert.That((long)stream.Handle, Is.Zero);
        Assert.That(stream.Synchronize, Throws.Nothing);
    }

    [Test]
    public void Disposed_Throws()
    {
        CudaStream stream = new(_context);
        using DeviceBuffer<int> buffer = new(_context, [1]);
        using CudaEvent signal = new(_context);
        stream.Dispose();
        stream.Dispose();

        Assert.Multiple(() =>
        {
            Assert.That(() => stream.Handle, Throws.InstanceOf<ObjectDisposedException>());
            Assert.That(stream.Synchronize, Throws.InstanceOf<ObjectDisposedException>());
            Assert.That(() => stream.Wait(signal), Throws.InstanceOf<ObjectDisposedException>());
            Assert.That(() => signal.Record(stream), Throws.InstanceOf<ObjectDisposedException>());
            Assert.That(() => buffer.Clear(stream), Throws.InstanceOf<ObjectDisposedException>());
        });
    }

    [Test]
    public void Null_IsRefused() => Assert.Multiple(() =>
    {
        Assert.That(() => new CudaStream(null!), Throws.ArgumentNullException);
        Assert.That(() => new CudaEvent(null!), Throws.ArgumentNullException);
        Assert.That(() => CudaStream.FromHandle(null!), Throws.ArgumentNullException);
    });
}
