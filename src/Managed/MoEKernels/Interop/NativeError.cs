using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using MoEKernels.Native;

namespace MoEKernels.Interop;

/// <summary>
/// Turns a native status into an exception. Must run on the thread of the failing call, before its next one.
/// </summary>
internal static unsafe class NativeError
{
    private const int MaxTextBytes = 4096;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void ThrowIfFailed(int status)
    {
        if (status != (int)MoeStatus.Ok)
            Throw(status);
    }

    /// <summary>The text of this thread's last failure, or the name of the status when there is none.</summary>
    internal static string Describe(int status)
    {
        byte* buffer = stackalloc byte[MaxTextBytes];
        buffer[0] = 0;
        if (NativeMethods.LastError(buffer, MaxTextBytes) == (int)MoeStatus.Ok && buffer[0] != 0)
            return Marshal.PtrToStringUTF8((nint)buffer)!;
        return Marshal.PtrToStringUTF8((nint)NativeMethods.StatusName(status)) ?? $"status {status}";
    }

    [DoesNotReturn]
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Throw(int status)
    {
        string text = Describe(status);
        throw (MoeStatus)status switch
        {
            MoeStatus.InvalidArgument or MoeStatus.WorkspaceTooSmall => new ArgumentException(text),
            MoeStatus.BackendUnavailable => new MoeBackendUnavailableException(text),
            MoeStatus.Device => new MoeDeviceException(text),
            MoeStatus.Unsupported => new MoeUnsupportedException(text),
            MoeStatus.Numeric => new MoeNumericException(text),
            var other => new MoeException(other, text),
        };
    }
}
