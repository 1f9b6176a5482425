using MoEKernels.Native;

namespace MoEKernels.Interop;

/// <summary>Keeps a native context alive during a call, even when another thread disposes of it meanwhile.</summary>
internal readonly unsafe ref struct ContextLease
{
    private readonly MoeContextHandle _handle;

    internal ContextLease(MoeContextHandle handle)
    {
        bool added = false;
        handle.DangerousAddRef(ref added);
        _handle = handle;
    }

    internal Context* Pointer => _handle.Pointer;

    public void Dispose() => _handle.DangerousRelease();
}
