using Microsoft.Extensions.Logging;

namespace MoEKernels;

/// <summary>What a <see cref="MoeContext"/> shall be. The default is the CPU with all its cores.</summary>
public sealed record MoeContextOptions
{
    /// <summary>Kind of device.</summary>
    public MoeDeviceType Device { get; init; }

    /// <summary>Which device of that kind, from 0; 0 on the CPU.</summary>
    public int DeviceIndex { get; init; }

    /// <summary>
    /// CPU threads, the calling one included; 0: one per core this process may use. Results do not depend on it.
    /// </summary>
    public int ThreadCount { get; init; }

    /// <summary>
    /// Address of a native function that lends the context another library's threads, to be used instead of threads of its own; 0: none. Two pools whose
    /// threads wait actively take the cores from each other. Its signature is
    /// <c>void (*)(void (*body)(void*), void* data, uint32_t threads, uint32_t flags)</c>: it calls <c>body(data)</c> on up to that many threads at once, the
    /// calling one among them, and returns when all have returned; <c>GOMP_parallel</c> of GNU's OpenMP library does. It has to stay loaded as
    /// long as the context lives. On the CPU only.
    /// </summary>
    public nint ParallelFunction { get; init; }

    /// <summary>Instruction set of the CPU backend. One that the processor lacks is an error.</summary>
    public InstructionSet InstructionSet { get; init; }

    /// <summary>Receives the context's messages; null: <see cref="MoeRuntime.Logger"/>.</summary>
    public ILogger? Logger { get; init; }

    /// <summary>Least severe message that the native library reports at all; fixed for the context's life.</summary>
    public LogLevel MinimumLogLevel { get; init; } = LogLevel.Information;

    /// <summary>
    /// Full path of the CUDA library; null: what the environment variable
    /// <see cref="MoeRuntime.CudaLibraryPathVariable"/> says, else beside the native library.
    /// </summary>
    public string? CudaLibraryPath { get; init; }
}
