using System.Runtime.InteropServices;
using MoEKernels.Native;

namespace MoEKernels.Interop;

/// <summary>
/// Owns something that was made on a context, and keeps that context alive: whatever the order in which the two are
/// disposed of or finalised, the native side sees this one go first.
/// </summary>
internal abstract unsafe class ContextChildHandle : SafeHandle
{
    // Null only where the constructor threw, because the context was disposed of; the finaliser runs even then.
    private readonly MoeContextHandle? _context;

    private protected ContextChildHandle(MoeContextHandle context)
        : base(0, ownsHandle: true)
    {
        bool added = false;
        context.DangerousAddRef(ref added);
        _context = context;
    }

    /// <summary>Never, since even without a native part there is the context to let go.</summary>
    public override bool IsInvalid => false;

    /// <summary>The native part; 0 for none.</summary>
    internal void* Pointer => (void*)handle;

    internal Context* Context => _context!.Pointer;

    /// <summary>Gives the native part back.</summary>
    private protected abstract int Destroy(Context* context, void* pointer);

    protected sealed override bool ReleaseHandle()
    {
        try
        {
            return handle == 0 || Destroy(Context, (void*)handle) == (int)MoeStatus.Ok;
        }
        finally
        {
            _context?.DangerousRelease();
        }
    }
}
