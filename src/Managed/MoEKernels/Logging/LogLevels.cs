using Microsoft.Extensions.Logging;
using NativeLevel = MoEKernels.Native.LogLevel;

namespace MoEKernels.Logging;

/// <summary>Translates severities between the native library and <see cref="LogLevel"/>.</summary>
internal static class LogLevels
{
    internal static LogLevel FromNative(int level) => (NativeLevel)level switch
    {
        NativeLevel.Trace => LogLevel.Trace,
        NativeLevel.Debug => LogLevel.Debug,
        NativeLevel.Information => LogLevel.Information,
        NativeLevel.Warning => LogLevel.Warning,
        _ => LogLevel.Error,
    };

    /// <summary>
    /// The least severe native level that passes; there is none beyond error, so "critical" and "none" mean error.
    /// </summary>
    internal static NativeLevel ToNative(LogLevel level) => level switch
    {
        LogLevel.Trace => NativeLevel.Trace,
        LogLevel.Debug => NativeLevel.Debug,
        LogLevel.Information => NativeLevel.Information,
        LogLevel.Warning => NativeLevel.Warning,
        _ => NativeLevel.Error,
    };
}
