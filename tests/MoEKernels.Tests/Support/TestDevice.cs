namespace MoEKernels.Tests;

/// <summary>
/// The devices that tests of the device layer run on: the CPU, and a GPU. The latter is skipped where there is none; with
/// the environment variable <see cref="CudaLibraryVariable"/> it is whatever that CUDA library drives, and then it must work.
/// </summary>
internal static class TestDevice
{
    /// <summary>Full path of a CUDA library, such as the emulated one of the native build.</summary>
    internal const string CudaLibraryVariable = "MOEK_TEST_CUDA_LIBRARY";

    /// <summary>Category of tests that need a GPU or a stand-in for one.</summary>
    internal const string Gpu = "Gpu";

    private static string? CudaLibrary =>
        Environment.GetEnvironmentVariable(CudaLibraryVariable) is { Length: > 0 } path ? path : null;

    /// <summary>A context on the device; the test is skipped where there is none.</summary>
    internal static MoeContext Open(MoeDeviceType type)
    {
        try
        {
            return new MoeContext(new MoeContextOptions { Device = type, CudaLibraryPath = CudaLibrary });
        }
        catch (MoeBackendUnavailableException reason) when (CudaLibrary is null)
        {
            Assert.Ignore($"There is no GPU to test on ({CudaLibraryVariable} could name a stand-in): {reason.Message}");
            throw;
        }
    }

    /// <summary>The first GPU; the test is skipped where there is none.</summary>
    internal static CudaDevice OpenCuda()
    {
        Open(MoeDeviceType.Cuda).Dispose();
        return CudaDevice.Open(options: new MoeContextOptions { CudaLibraryPath = CudaLibrary });
    }
}
