using MoEKernels.Native;

namespace MoEKernels.Interop;

/// <summary>Owns an event.</summary>
internal sealed unsafe class EventHandle : ContextChildHandle
{
    private EventHandle(MoeContextHandle context)
        : base(context)
    {
    }

    internal static EventHandle Create(MoeContextHandle context)
    {
        EventHandle result = new(context);
        try
        {
            Event* created = null;
            NativeError.ThrowIfFailed(NativeMethods.EventCreate(result.Context, &created));
            result.SetHandle((nint)created);
            return result;
        }
        catch
        {
            result.Dispose();
            throw;
        }
    }

    private protected override int Destroy(Context* context, void* pointer) =>
        NativeMethods.EventDestroy(context, (Event*)pointer);
}
