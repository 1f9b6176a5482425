using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>Where tensors lie and which kernels work on them.</summary>
public enum TestPlace
{
    /// <summary>Host memory, the CPU's kernels.</summary>
    Cpu,

    /// <summary>
    /// Host memory, the CUDA kernels as <see cref="TestPlaces.CudaLibraryVariable"/> provides them: the emulated library, whose device memory is
    /// the host's.
    /// </summary>
    EmulatedCuda,

    /// <summary>A GPU.</summary>
    Cuda,
}

/// <summary>Opens a <see cref="TestPlace"/>, or skips the test and says why.</summary>
internal static class TestPlaces
{
    /// <summary>Full path of the emulated CUDA library.</summary>
    internal const string CudaLibraryVariable = "MOEK_TEST_CUDA_LIBRARY";

    /// <summary>Category of tests that need a GPU or a stand-in for one.</summary>
    internal const string Gpu = "Gpu";

    private static MoeContext? _emulated;

    /// <summary>Makes ready what the tensors' device stands for; <see cref="Close"/> undoes it.</summary>
    /// <returns>Where the tensors of the test shall be.</returns>
    internal static Device Open(TestPlace place)
    {
        switch (place)
        {
            case TestPlace.EmulatedCuda:
                string? library = Environment.GetEnvironmentVariable(CudaLibraryVariable);
                if (string.IsNullOrEmpty(library))
                    Assert.Ignore($"There is no emulated CUDA library: {CudaLibraryVariable} is not set.");
                _emulated ??= new MoeContext(new MoeContextOptions { Device = MoeDeviceType.Cuda, CudaLibraryPath = library });
                MoeContexts.CpuOverride = _emulated;
                return CPU;
            case TestPlace.Cuda:
                RequireGpus(1);
                return new Device(global::TorchSharp.DeviceType.CUDA, 0);
            default:
                return CPU;
        }
    }

    internal static void Close() => MoeContexts.CpuOverride = null;

    /// <summary>Skips the test where there are fewer GPUs that both libtorch and the native library can use.</summary>
    internal static void RequireGpus(int count)
    {
        if (!cuda.is_available())
            Assert.Ignore("TorchSharp sees no CUDA device: there is none, or libtorch is the CPU's (see tests/README.md).");
        if (cuda.device_count() < count)
            Assert.Ignore($"There are {cuda.device_count()} CUDA devices; this test needs {count}.");
        try
        {
            MoeContexts.Cuda(0);
        }
        catch (MoeBackendUnavailableException reason)
        {
            Assert.Ignore($"The native library cannot use CUDA: {reason.Message}");
        }
    }
}
