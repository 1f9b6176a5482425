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
