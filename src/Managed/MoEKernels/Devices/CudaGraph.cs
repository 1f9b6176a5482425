using MoEKernels.Interop;
using MoEKernels.Native;

namespace MoEKernels;

/// <summary>
/// Work that was captured once and can be launched again and again for the cost of one call. Addresses and arguments are
/// recorded as they are: buffers must outlive the graph, and every launch draws the same dropout masks.
/// </summary>
public sealed unsafe class CudaGraph : IDisposable
{
    private readonly GraphHandle _handle;

    private CudaGraph(MoeContext context, GraphHandle handle)
    {
        Context = context;
        _handle = handle;
    }

    /// <summary>The context on whose device it works.</summary>
    public MoeContext Context { get; }

    /// <summary>How many pieces of work it holds: kernels, copies and sets.</summary>
    /// <exception cref="ObjectDisposedException">The graph was disposed of.</exception>
    public long NodeCount
    {
        get
        {
            ulong count = 0;
            using ChildLease graph = new(_handle);
            NativeError.ThrowIfFailed(
                NativeMethods.GraphNodeCount(graph.Context, (Graph*)graph.Pointer, &count));
            return checked((long)count);
        }
    }

    /// <summary>
    /// Runs <paramref name="work"/>, which queues ops, sets and copies between buffers on the stream, and keeps what it
    /// queued instead of running it.
    /// </summary>
    /// <param name="stream">A stream other than the default one.</param>
    /// <param name="work">
    /// Runs on this thread, to its end: not an async method. It must not wait for the device, copy to or from spans,
    /// allocate or dispose of buffers or launch a graph. Run it once before the capture: kernels are loaded on first use.
    /// </param>
    /// <exception cref="ArgumentException">The stream is the default stream, or already being captured.</exception>
    /// <exception cref="ObjectDisposedException">The stream was disposed of.</exception>
    /// <exception cref="MoeUnsupportedException">The stream is one of the CPU.</exception>
    /// <exception cref="MoeException">The work called something that a capture rules out, or the device failed.</exception>
    public static CudaGraph Capture(CudaStream stream, Action work)
    {
        ArgumentNullException.ThrowIfNull(stream);
        ArgumentNullException.ThrowIfNull(work);
        using ChildLease queue = new(stream.Child);
        return new CudaGraph(stream.Context, GraphHandle.Capture(stream.Context.Handle, queue.Pointer, work));
    }

    /// <summary>Queues the captured work. One graph runs once at a time: a second launch waits for the first.</summary>
    /// <param name="stream">A stream of the same device; null: the default stream.</param>
    /// <exception cref="ArgumentException">The stream belongs to another device, or is being captured.</exception>
    /// <exception cref="ObjectDisposedException">The graph or the stream was disposed of.</exception>
    /// <exception cref="MoeException">The device failed.</exception>
    public void Launch(CudaStream? stream = null)
    {
        if (stream is not null)
            Require.SameDevice(stream.Context, Context, nameof(stream));
        using ChildLease graph = new(_handle);
        using ChildLease queue = new(stream?.Child);
        NativeError.ThrowIfFailed(NativeMethods.GraphLaunch(graph.Context, (Graph*)graph.Pointer, queue.Pointer));
    }

    /// <summary>Gives the graph back; a launch that still runs is finished. A second call does nothing.</summary>
    public void Dispose() => _handle.Dispose();
}
