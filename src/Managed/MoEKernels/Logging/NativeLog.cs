using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Extensions.Logging;

namespace MoEKernels.Logging;

/// <summary>
/// Receives the messages of one native context and passes them to an <see cref="ILogger"/> that may be exchanged at any
/// time. The native side holds a handle to it, so it lives exactly as long as the context.
/// </summary>
internal sealed unsafe class NativeLog
{
    private volatile ILogger? _logger;

    internal static delegate* unmanaged[Cdecl]<int, byte*, ulong, void*, void> Callback => &OnMessage;

    /// <summary>Where messages go; null: to <see cref="MoeRuntime.Logger"/>.</summary>
    internal ILogger? Logger
    {
        get => _logger;
        set => _logger = value;
    }

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static void OnMessage(int level, byte* message, ulong length, void* user)
    {
        // Native frames are above: an exception that left this method would end the process.
        try
        {
            if (GCHandle.FromIntPtr((nint)user).Target is NativeLog log)
                log.Write(level, new ReadOnlySpan<byte>(message, checked((int)length)));
        }
        catch (Exception)
        {
            // A logger that fails has nowhere to say so.
        }
    }

    private void Write(int nativeLevel, ReadOnlySpan<byte> message)
    {
        ILogger logger = _logger ?? MoeRuntime.Logger;
        LogLevel level = LogLevels.FromNative(nativeLevel);
        if (!logger.IsEnabled(level))
            return;
        string text = Encoding.UTF8.GetString(message);
        Messages.NativeMessage(logger, level, text);
    }
}
