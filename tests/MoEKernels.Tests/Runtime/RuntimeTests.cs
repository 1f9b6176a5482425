namespace MoEKernels.Tests;

public sealed class RuntimeTests
{
    [Test]
    public void Initialize_LoadsALibraryThatFits() => Assert.Multiple(() =>
    {
        Assert.That(MoeRuntime.TryInitialize(out MoeLibraryLoadException? failure), failure?.Message);
        Assert.That(failure, Is.Null);
        Assert.That(MoeRuntime.AbiVersion, Is.EqualTo(MoEKernels.Native.Constants.AbiVersion));
        Assert.That(MoeRuntime.LoadedLibraryPath, Does.Exist);
        Assert.That(MoeRuntime.LoadTrace, Has.Some.EndsWith("loaded"));
    });

    [Test]
    public void BuildInfo_IsFilled() => Assert.Multiple(() =>
    {
        Assert.That(MoeRuntime.BuildInfo.Version, Does.Match(@"^\d+\.\d+\.\d+"));
        Assert.That(MoeRuntime.BuildInfo.Compiler, Is.Not.Empty);
        Assert.That(MoeRuntime.BuildInfo.Build, Is.AnyOf("release", "debug"));
        Assert.That(MoeRuntime.BuildInfo.InstructionSets, Does.Contain("scalar").IgnoreCase);
        Assert.That(MoeRuntime.BuildInfo.Text, Does.Contain("version="));
    });

    [Test]
    public void BuildInfo_IgnoresWhatItDoesNotKnow()
    {
        MoeBuildInfo info = MoeBuildInfo.Parse("version=1.2.3\ncommit=\nfuture=x=y\nno equals sign\n=odd\n");

        Assert.Multiple(() =>
        {
            Assert.That(info.Version, Is.EqualTo("1.2.3"));
            Assert.That(info.Commit, Is.Empty);
            Assert.That(info.CudaArchitectures, Is.Empty);
        });
    }

    [Test]
    public void Devices_BeginWithTheProcessor()
    {
        MoeDevice processor = MoeRuntime.GetDevices()[0];

        Assert.Multiple(() =>
        {
            Assert.That(processor.Type, Is.EqualTo(MoeDeviceType.Cpu));
            Assert.That(processor.Name, Is.Not.Empty);
            Assert.That(processor.CoreCount, Is.GreaterThan(0));
            Assert.That(MoeRuntime.GetDevices(MoeDeviceType.Cpu), Is.EqualTo(new[] { processor }));
        });
    }

    [Test]
    public void DefaultBackend_IsChosenForAReason()
    {
        BackendChoice choice = MoeRuntime.DefaultBackend;

        Assert.That(choice.Reason, Is.Not.Empty);
        if (choice.Device == MoeDeviceType.Cuda)
            Assert.That(MoeRuntime.GetDevices(MoeDeviceType.Cuda), Is.Not.Empty);
        else
            Assert.That(choice.Reason, Does.Contain("CUDA"));
    }

    [Test]
    public void Cuda_WithoutItsLibrary_SaysWhichFileIsMissing()
    {
        string missing = Path.Combine(TestContext.CurrentContext.WorkDirectory, "no-such-folder",
            "libmoekernels_cuda.so");

        Assert.That(() => new MoeContext(new MoeContextOptions { Device = MoeDeviceType.Cuda, CudaLibraryPath = missing }),
            Throws.TypeOf<MoeBackendUnavailableException>().With.Message.Contains(missing)
                .And.Property(nameof(MoeException.Status)).EqualTo(MoeStatus.BackendUnavailable));
    }

    [Test]
    public void GetDevices_UnknownKind_IsRefused() =>
        Assert.That(() => MoeRuntime.GetDevices((MoeDeviceType)5),
        Throws.InstanceOf<ArgumentException>().With.Message.Contains("5"));

    [Test]
    public void Describe_NamesLibraryDevicesAndTrace() => Assert.That(MoeRuntime.Describe(),
        Does.Contain(MoeRuntime.LoadedLibraryPath).And.Contain("device: Cpu 0").And.Contain("backend: ").And.Contain(
        "load trace:"));

    [Test]
    public void Logger_Null_IsRefused() => Assert.That(() => MoeRuntime.Logger = null!, Throws.ArgumentNullException);

    [Test]
    [NonParallelizable]
    public void DefaultThreadCount_ReplacesTheDefaultContext()
    {
        MoeContext before = MoeContext.Default;
        try
        {
            MoeRuntime.DefaultThreadCount = 3;
            MoeContext after = MoeContext.Default;

            Assert.Multiple(() =>
            {
                Assert.That(after, Is.Not.SameAs(before));
                Assert.That(after.ThreadCount, Is.EqualTo(3));
                Assert.That(MoeRuntime.DefaultThreadCount, Is.EqualTo(3));
                // Who held the old one can still use it.
                Assert.That(() => Gate.UpdateBias([1], new float[1], 1, context: before), Throws.Nothing);
                Assert.That(() => MoeRuntime.DefaultThreadCount = -1, Throws.InstanceOf<ArgumentException>());
            });
        }
        finally
        {
            MoeRuntime.DefaultThreadCount = 0;
        }
        Assert.That(MoeRuntime.DefaultThreadCount, Is.EqualTo(before.ThreadCount));
    }
}
