using MoEKernels.Native;

namespace MoEKernels.Interop;

/// <summary>
/// Keeps what was made on a context alive during a call, even when another thread disposes of it meanwhile.
/// </summary>
internal readonly unsafe ref struct ChildLease
{
    private readonly ContextChildHandle? _handle;

    /// <param name="handle">The handle; null: nothing, as for the default stream.</param>
    /// <exception cref="ObjectDisposedException">It was disposed of.</exception>
    internal ChildLease(ContextChildHandle? handle)
    {
        bool added = false;
        handle?.DangerousAddRef(ref added);
        _handle = handle;
    }

    internal Context* Context => _handle!.Context;

    internal void* Pointer => _handle is null ? null : _handle.Pointer;

    public void Dispose() => _handle?.DangerousRelease();
}
