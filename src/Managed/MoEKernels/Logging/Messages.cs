using Microsoft.Extensions.Logging;

namespace MoEKernels.Logging;

/// <summary>
/// Everything this assembly logs. Event ids are stable: 1 to 99 are the runtime's, 100 up the native library's.
/// </summary>
internal static partial class Messages
{
    [LoggerMessage(EventId = 1, EventName = "LibraryLoaded", Level = LogLevel.Information,
        Message = "Native library {Path} loaded: version {Version}, ABI {AbiVersion}, instruction sets {Isa}")]
    internal static partial void LibraryLoaded(ILogger logger, string path, string version, int abiVersion, string isa);

    [LoggerMessage(EventId = 2, EventName = "LibraryLoadFailed", Level = LogLevel.Error, Message = "{Failure}")]
    internal static partial void LibraryLoadFailed(ILogger logger, string failure);

    [LoggerMessage(EventId = 3, EventName = "BackendChosen", Level = LogLevel.Information,
        Message = "Default backend {Device}: {Reason}")]
    internal static partial void BackendChosen(ILogger logger, MoeDeviceType device, string reason);

    [LoggerMessage(EventId = 4, EventName = "ContextCreated", Level = LogLevel.Debug,
        Message = "Context on {Device} {DeviceIndex}: {ThreadCount} threads, instruction set {Isa}")]
    internal static partial void ContextCreated(
        ILogger logger, MoeDeviceType device, int deviceIndex, int threadCount, InstructionSet isa);

    [LoggerMessage(EventId = 100, EventName = "NativeMessage", Message = "{Message}")]
    internal static partial void NativeMessage(ILogger logger, LogLevel level, string message);
}
