using MoEKernels.Native;

namespace MoEKernels.Interop;

/// <summary>Owns a graph.</summary>
internal sealed unsafe class GraphHandle : ContextChildHandle
{
    private GraphHandle(MoeContextHandle context)
        : base(context)
    {
    }

    /// <summary>Captures what the work queues on the stream. The capture is over when this returns or throws.</summary>
    internal static GraphHandle Capture(MoeContextHandle context, void* stream, Action work)
    {
        GraphHandle result = new(context);
        try
        {
            NativeError.ThrowIfFailed(NativeMethods.GraphCaptureBegin(result.Context, stream));
            Graph* graph = null;
            try
            {
                work();
            }
            catch
            {
                // What was captured so far is of no use to anyone, and neither is a failure to end it: the work's own
                // exception is the cause.
                if (NativeMethods.GraphCaptureEnd(result.Context, stream, &graph) == (int)MoeStatus.Ok)
                    result.SetHandle((nint)graph);
                throw;
            }
            NativeError.ThrowIfFailed(NativeMethods.GraphCaptureEnd(result.Context, stream, &graph));
            result.SetHandle((nint)graph);
            return result;
        }
        catch
        {
            result.Dispose();
            throw;
        }
    }

    private protected override int Destroy(Context* context, void* pointer) =>
        NativeMethods.GraphDestroy(context, (Graph*)pointer);
}
