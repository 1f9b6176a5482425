using System.Diagnostics;
using System.Runtime.InteropServices;

namespace MoEKernels.TorchSharp;

/// <summary>The threads that libtorch computes with on the CPU.</summary>
/// <remarks>
/// libtorch's are OpenMP's. Those of GNU's library go on waiting actively for a while after each operation, on the very cores that another pool's
/// threads would have to wake up on. So calls on CPU tensors run on libtorch's threads where that library can be found (on Linux), and on
/// threads of their own elsewhere. Results do not depend on it.
/// </remarks>
public static class TorchThreads
{
    private const string OpenMp = "libgomp";
    private const string Parallel = "GOMP_parallel";

    private static readonly Lazy<nint> Function = new(Find);

    /// <summary>
    /// For <see cref="MoeContextOptions.ParallelFunction"/>: lends libtorch's threads. 0 where libtorch does not use GNU's OpenMP library. Loads libtorch if
    /// that has not happened yet.
    /// </summary>
    public static nint ParallelFunction => Function.Value;

    private static nint Find()
    {
        if (!OperatingSystem.IsLinux())
            return 0;
        global::TorchSharp.torch.InitializeDeviceType(global::TorchSharp.DeviceType.CPU);
        using var process = Process.GetCurrentProcess();
        // libtorch brings a copy under a name of its own, and the system's may be there beside it: the one in libtorch's folder is libtorch's.
        string[] libraries = [.. process.Modules.Cast<ProcessModule>().Select(module => module.FileName)];
        string? torch = Path.GetDirectoryName(libraries.FirstOrDefault(path => Path.GetFileName(path).StartsWith("libtorch_cpu", StringComparison.Ordinal)));
        string[] candidates = [.. libraries.Where(path => Path.GetFileName(path).StartsWith(OpenMp, StringComparison.Ordinal))];
        string? library = candidates.FirstOrDefault(path => Path.GetDirectoryName(path) == torch) ?? (candidates.Length == 1 ? candidates[0] : null);
        return library is not null && NativeLibrary.TryLoad(library, out nint handle) && NativeLibrary.TryGetExport(handle, Parallel, out nint function)
            ? function
            : 0;
    }
}
