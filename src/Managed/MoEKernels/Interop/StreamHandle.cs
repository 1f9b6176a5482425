using MoEKernels.Native;

namespace MoEKernels.Interop;

/// <summary>Owns a stream, or stands for somebody else's.</summary>
internal sealed unsafe class StreamHandle : ContextChildHandle
{
    private readonly bool _isOwned;

    private StreamHandle(MoeContextHandle context, bool isOwned)
        : base(context) => _isOwned = isOwned;

    internal static StreamHandle Create(MoeContextHandle context)
    {
        StreamHandle result = new(context, isOwned: true);
        try
        {
            void* stream = null;
            NativeError.ThrowIfFailed(NativeMethods.StreamCreate(result.Context, &stream));
            result.SetHandle((nint)stream);
            return result;
        }
        catch
        {
            result.Dispose();
            throw;
        }
    }

    internal static StreamHandle Borrow(MoeContextHandle context, nint stream)
    {
        StreamHandle result = new(context, isOwned: false);
        result.SetHandle(stream);
        return result;
    }

    private protected override int Destroy(Context* context, void* pointer) =>
        _isOwned ? NativeMethods.StreamDestroy(context, pointer) : (int)MoeStatus.Ok;
}
