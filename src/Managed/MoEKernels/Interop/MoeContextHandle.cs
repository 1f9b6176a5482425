using System.Runtime.InteropServices;
using MoEKernels.Logging;
using MoEKernels.Native;

namespace MoEKernels.Interop;

/// <summary>Owns a native context and the log that it reports to.</summary>
internal sealed unsafe class MoeContextHandle : SafeHandle
{
    private GCHandle _log;

    public MoeContextHandle()
        : base(0, ownsHandle: true)
    {
    }

    public override bool IsInvalid => handle == 0;

    internal Context* Pointer => (Context*)handle;

    /// <summary>Creates a context that reports to <paramref name="log"/>.</summary>
    internal static MoeContextHandle Create(ContextOptions options, NativeLog log)
    {
        MoeContextHandle result = new();
        try
        {
            result._log = GCHandle.Alloc(log);
            options.Log = NativeLog.Callback;
            options.LogUser = (void*)GCHandle.ToIntPtr(result._log);
            Context* context = null;
            NativeError.ThrowIfFailed(NativeMethods.ContextCreate(&options, &context));
            result.SetHandle((nint)context);
            return result;
        }
        catch
        {
            result.FreeLog();
            result.Dispose();
            throw;
        }
    }

    protected override bool ReleaseHandle()
    {
        int status = NativeMethods.ContextDestroy(Pointer);
        // Only now: the native side may log while it shuts down.
        FreeLog();
        return status == (int)MoeStatus.Ok;
    }

    private void FreeLog()
    {
        if (_log.IsAllocated)
            _log.Free();
    }
}
