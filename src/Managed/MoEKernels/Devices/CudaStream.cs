using System.Diagnostics.CodeAnalysis;
using MoEKernels.Interop;
using MoEKernels.Native;

namespace MoEKernels;

/// <summary>
/// A queue of work of a CUDA device, done in order. Where a call takes a stream, none means the device's default stream;
/// raw ops take <see cref="Handle"/>. A stream made here does not wait for the default stream, nor that for it:
/// <see cref="Wait"/> orders two streams.
/// </summary>
/// <remarks>On a CPU context calls return when their work is done, so the stream is empty and its handle 0.</remarks>
[SuppressMessage("Naming", "CA1711:Identifiers should not have incorrect suffix", Justification = "CUDA's own word.")]
public sealed unsafe class CudaStream : IDisposable
{
    private readonly StreamHandle _handle;

    /// <summary>Makes a stream.</summary>
    /// <param name="context">The context on whose device it works.</param>
    /// <exception cref="ObjectDisposedException">The context was disposed of.</exception>
    /// <exception cref="MoeException">The device failed.</exception>
    public CudaStream(MoeContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        Context = context;
        _handle = StreamHandle.Create(context.Handle);
    }

    private CudaStream(MoeContext context, StreamHandle handle)
    {
        Context = context;
        _handle = handle;
    }

    /// <summary>The context on whose device it works.</summary>
    public MoeContext Context { get; }

    /// <summary>The <c>cudaStream_t</c>, for raw ops; 0 is the default stream.</summary>
    /// <exception cref="ObjectDisposedException">The stream was disposed of.</exception>
    public nint Handle
    {
        get
        {
            ObjectDisposedException.ThrowIf(_handle.IsClosed, this);
            return (nint)_handle.Pointer;
        }
    }

    internal ContextChildHandle Child => _handle;

    /// <summary>Makes somebody else's stream known, or the default stream. Disposing of the result leaves it alone.</summary>
    /// <param name="context">The context whose device the stream belongs to.</param>
    /// <param name="handle">A <c>cudaStream_t</c>; 0: the default stream.</param>
    /// <exception cref="ObjectDisposedException">The context was disposed of.</exception>
    public static CudaStream FromHandle(MoeContext context, nint handle = 0)
    {
        ArgumentNullException.ThrowIfNull(context);
        return new CudaStream(context, StreamHandle.Borrow(context.Handle, handle));
    }

    /// <summary>Waits until all its work is done.</summary>
    /// <exception cref="ArgumentException">The stream is being captured.</exception>
    /// <exception cref="ObjectDisposedException">The stream was disposed of.</exception>
    /// <exception cref="MoeException">The work failed.</exception>
    public void Synchronize()
    {
        using ChildLease stream = new(_handle);
        NativeError.ThrowIfFailed(NativeMethods.StreamSynchronize(stream.Context, stream.Pointer));
    }

    /// <summary>
    /// Lets later work of this stream wait for an event of another; the call itself does not wait. An event that was never
    /// recorded holds nothing up.
    /// </summary>
    /// <param name="signal">An event of the same context.</param>
    /// <exception cref="ArgumentException">The event belongs to another context.</exception>
    /// <exception cref="ObjectDisposedException">The stream or the event was disposed of.</exception>
    /// <exception cref="MoeException">The device failed.</exception>
    public void Wait(CudaEvent signal)
    {
        ArgumentNullException.ThrowIfNull(signal);
        using ChildLease stream = new(_handle);
        using ChildLease lease = new(signal.Child);
        NativeError.ThrowIfFailed(
            NativeMethods.StreamWaitEvent(stream.Context, stream.Pointer, (Event*)lease.Pointer));
    }

    /// <summary>Gives the stream back; work that is queued on it is still done. A second call does nothing.</summary>
    public void Dispose() => _handle.Dispose();
}
