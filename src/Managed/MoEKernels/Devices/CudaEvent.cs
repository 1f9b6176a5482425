using MoEKernels.Interop;
using MoEKernels.Native;

namespace MoEKernels;

/// <summary>
/// A point in a stream's work, for ordering two streams (<see cref="CudaStream.Wait"/>) and for measuring time on the
/// device:
/// <code>
/// start.Record(stream);
/// RankLora.Forward(context, args, workspace.Address, workspace.Length, stream.Handle);
/// end.Record(stream);
/// TimeSpan time = end.ElapsedSince(start);
/// </code>
/// </summary>
/// <remarks>On a CPU context it is the time at which it was recorded, by a steady clock.</remarks>
public sealed unsafe class CudaEvent : IDisposable
{
    private readonly EventHandle _handle;

    /// <summary>Makes an event.</summary>
    /// <param name="context">The context to whose device it belongs.</param>
    /// <exception cref="ObjectDisposedException">The context was disposed of.</exception>
    /// <exception cref="MoeException">The device failed.</exception>
    public CudaEvent(MoeContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        Context = context;
        _handle = EventHandle.Create(context.Handle);
    }

    /// <summary>The context to whose device it belongs.</summary>
    public MoeContext Context { get; }

    internal ContextChildHandle Child => _handle;

    /// <summary>
    /// Puts the event at the end of the stream's work so far, in place of where it was. Within a capture it orders work of
    /// the graph and has no time.
    /// </summary>
    /// <param name="stream">A stream of the same device; null: the default stream.</param>
    /// <exception cref="ArgumentException">The stream belongs to another device.</exception>
    /// <exception cref="ObjectDisposedException">The event or the stream was disposed of.</exception>
    /// <exception cref="MoeException">The device failed.</exception>
    public void Record(CudaStream? stream = null)
    {
        if (stream is not null)
            Require.SameDevice(stream.Context, Context, nameof(stream));
        using ChildLease lease = new(_handle);
        using ChildLease queue = new(stream?.Child);
        NativeError.ThrowIfFailed(
            NativeMethods.EventRecord(lease.Context, (Event*)lease.Pointer, queue.Pointer));
    }

    /// <summary>Waits until the work before the event is done; returns at once when it was never recorded.</summary>
    /// <exception cref="ObjectDisposedException">The event was disposed of.</exception>
    /// <exception cref="MoeException">The work failed, or a stream is being captured.</exception>
    public void Synchronize()
    {
        using ChildLease lease = new(_handle);
        NativeError.ThrowIfFailed(NativeMethods.EventSynchronize(lease.Context, (Event*)lease.Pointer));
    }

    /// <summary>
    /// The time on the device between two events, to about half a microsecond; waits for both. Negative when this event
    /// came first.
    /// </summary>
    /// <param name="start">The earlier event, of the same context.</param>
    /// <exception cref="ArgumentException">
    /// One of the two was never recorded outside a capture, or they belong to different contexts.
    /// </exception>
    /// <exception cref="ObjectDisposedException">One of the two was disposed of.</exception>
    /// <exception cref="MoeException">The work failed, or a stream is being captured.</exception>
    public TimeSpan ElapsedSince(CudaEvent start)
    {
        ArgumentNullException.ThrowIfNull(start);
        using ChildLease lease = new(_handle);
        using ChildLease startLease = new(start.Child);
        double milliseconds = 0;
        NativeError.ThrowIfFailed(NativeMethods.EventElapsed(
            lease.Context, (Event*)startLease.Pointer, (Event*)lease.Pointer, &milliseconds));
        return TimeSpan.FromTicks((long)Math.Round(milliseconds * TimeSpan.TicksPerMillisecond));
    }

    /// <summary>Gives the event back. A second call does nothing.</summary>
    public void Dispose() => _handle.Dispose();
}
