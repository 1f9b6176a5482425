using System.Buffers;
using System.Runtime.InteropServices;

namespace MoEKernels.Interop;

/// <summary>
/// Scratch memory of a CPU call: from the shared pool, or from the system where a managed array would be too large.
/// </summary>
internal unsafe ref struct HostWorkspace
{
    // A cache line, so that threads which split the workspace do not share the first one with the array's header.
    private const int Alignment = 64;

    private byte[]? _rented;
    private GCHandle _pin;
    private void* _allocated;

    internal HostWorkspace(ulong bytes)
    {
        Bytes = bytes;
        if (bytes == 0)
            return;
        if (bytes <= (ulong)(Array.MaxLength - Alignment))
        {
            _rented = ArrayPool<byte>.Shared.Rent((int)bytes + Alignment);
            _pin = GCHandle.Alloc(_rented, GCHandleType.Pinned);
            nint start = _pin.AddrOfPinnedObject();
            Pointer = (void*)((start + Alignment - 1) & ~(nint)(Alignment - 1));
        }
        else
        {
            Pointer = _allocated = NativeMemory.AlignedAlloc(checked((nuint)bytes), Alignment);
        }
    }

    internal void* Pointer { get; }

    internal ulong Bytes { get; }

    public void Dispose()
    {
        if (_rented is { } rented)
        {
            _pin.Free();
            _rented = null;
            ArrayPool<byte>.Shared.Return(rented);
        }
        if (_allocated != null)
        {
            NativeMemory.AlignedFree(_allocated);
            _allocated = null;
        }
    }
}
