namespace MoEKernels.Tests;

public sealed class CudaDeviceTests
{
    [Test]
    [Category(TestDevice.Gpu)]
    public void Open_TellsWhatTheDeviceIs()
    {
        using CudaDevice device = TestDevice.OpenCuda();
        DeviceMemory memory = device.GetMemory();

        Assert.Multiple(() =>
        {
            Assert.That(device.Index, Is.Zero);
            Assert.That(device.Name, Is.Not.Empty);
            Assert.That(device.Capability, Is.GreaterThanOrEqualTo(new Version(8, 0)));
            Assert.That(device.MultiprocessorCount, Is.GreaterThan(0));
            Assert.That(memory.Total, Is.GreaterThan(0));
            Assert.That(memory.Free, Is.GreaterThan(0).And.LessThanOrEqualTo(memory.Total));
            Assert.That(device.Context.Device, Is.EqualTo(MoeDeviceType.Cuda));
            Assert.That(device.Context.GetDevice().TotalMemory, Is.EqualTo((ulong)memory.Total));
        });
        device.SynchronizeDefaultStream();
    }

    [Test]
    [Category(TestDevice.Gpu)]
    public void Open_ADeviceThatIsNotThere_SaysHowManyThereAre()
    {
        using CudaDevice device = TestDevice.OpenCuda();

        Assert.That(() => new MoeContext(new MoeContextOptions
        {
            Device = MoeDeviceType.Cuda,
            DeviceIndex = 1000,
            CudaLibraryPath = Environment.GetEnvironmentVariable(TestDevice.CudaLibraryVariable),
        }), Throws.ArgumentException.With.Message.Contains("device_index: got 1000, expected 0.."));
    }

    [Test]
    [Category(TestDevice.Gpu)]
    public void Memory_OfABuffer_IsNoLongerFree()
    {
        const long Bytes = 64 << 20;
        using CudaDevice device = TestDevice.OpenCuda();
        long before = device.GetMemory().Free;
        using DeviceBuffer<byte> buffer = device.Allocate<byte>(Bytes);

        Assert.That(device.GetMemory().Free, Is.LessThanOrEqualTo(before - Bytes / 2));
    }

    [Test]
    [Category(TestDevice.Gpu)]
    public void Disposed_Throws()
    {
        CudaDevice device = TestDevice.OpenCuda();
        device.Dispose();
        device.Dispose();

        Assert.Multiple(() =>
        {
            Assert.That(() => device.GetMemory(), Throws.InstanceOf<ObjectDisposedException>());
            Assert.That(() => device.Allocate<int>(1), Throws.InstanceOf<ObjectDisposedException>());
            Assert.That(device.CreateStream, Throws.InstanceOf<ObjectDisposedException>());
            Assert.That(device.CreateEvent, Throws.InstanceOf<ObjectDisposedException>());
            Assert.That(device.SynchronizeDefaultStream, Throws.InstanceOf<ObjectDisposedException>());
            Assert.That(device.Name, Is.Not.Empty);
        });
    }

    [Test]
    public void Open_WithALibraryThatIsNotThere_NamesIt() => Assert.That(
        () => CudaDevice.Open(options: new MoeContextOptions { CudaLibraryPath = "/nowhere/libmoekernels_cuda.so" }),
        Throws.TypeOf<MoeBackendUnavailableException>().With.Message.Contains("/nowhere/libmoekernels_cuda.so"));

    [Test]
    public void Open_NegativeIndex_IsNamed() => Assert.That(() => CudaDevice.Open(-1),
        Throws.InstanceOf<ArgumentOutOfRangeException>().With.Message.Contains("index"));

    [Test]
    public void GetDevices_AgreesWithTheBackendOfThisMachine()
    {
        if (MoeRuntime.DefaultBackend.Device == MoeDeviceType.Cuda)
            Assert.That(CudaDevice.GetDevices(), Is.Not.Empty);
        else
            Assert.That(CudaDevice.GetDevices, Throws.TypeOf<MoeBackendUnavailableException>());
    }

    [Test]
    public void Context_OfTheCpu_TellsItsDeviceAndMemory()
    {
        MoeDevice cpu = MoeContext.Default.GetDevice();
        DeviceMemory memory = MoeContext.Default.GetMemory();

        Assert.Multiple(() =>
        {
            Assert.That(cpu, Is.EqualTo(MoeRuntime.GetDevices(MoeDeviceType.Cpu)[0]));
            Assert.That(memory.Total, Is.EqualTo((long)cpu.TotalMemory));
            Assert.That(memory.Free, Is.LessThanOrEqualTo(memory.Total));
        });
    }

    [Test]
    public void Graph_OnTheCpu_IsUnsupported()
    {
        using CudaStream stream = new(MoeContext.Default);
        bool hasRun = false;

        Assert.That(() => CudaGraph.Capture(stream, () => hasRun = true),
            Throws.TypeOf<MoeUnsupportedException>().With.Message.Contains("graphs need a CUDA context"));
        Assert.That(hasRun, Is.False);
        Assert.That(() => CudaGraph.Capture(null!, () => { }), Throws.ArgumentNullException);
        Assert.That(() => CudaGraph.Capture(stream, null!), Throws.ArgumentNullException);
    }
}
