using MoEKernels.Native;

namespace MoEKernels.Interop;

/// <summary>Owns memory of a context's device.</summary>
internal sealed unsafe class DeviceMemoryHandle : ContextChildHandle
{
    private DeviceMemoryHandle(MoeContextHandle context)
        : base(context)
    {
    }

    internal static DeviceMemoryHandle Allocate(MoeContextHandle context, ulong bytes)
    {
        DeviceMemoryHandle result = new(context);
        try
        {
            void* memory = null;
            NativeError.ThrowIfFailed(NativeMethods.MemoryAllocate(result.Context, bytes, &memory));
            result.SetHandle((nint)memory);
            return result;
        }
        catch
        {
            result.Dispose();
            throw;
        }
    }

    private protected override int Destroy(Context* context, void* pointer) =>
        NativeMethods.MemoryFree(context, pointer);
}
