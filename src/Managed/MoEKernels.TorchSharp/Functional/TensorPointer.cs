using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>The address of a tensor's first element.</summary>
/// <remarks>
/// TorchSharp's public ways convert the type, copy to the host or leave out the storage offset. Its native library exports the right one
/// without promising to keep it, so the first use compares it with the public way around, a subclass of <see cref="Storage"/>, and
/// falls back to that where the export is gone or answers differently.
/// </remarks>
internal static partial class TensorPointer
{
    private static readonly bool HasExport = ExportAgreesWithStorage();

    /// <summary>Address of the first element, 0 for a tensor without elements. The caller keeps the tensor alive.</summary>
    public static nint Of(Tensor tensor)
    {
        if (HasExport)
            return THSTensor_data(tensor.Handle);
        return tensor.numel() == 0 ? 0 : ThroughStorage(tensor);
    }

    internal static nint ThroughStorage(Tensor tensor) =>
        new AddressOnlyStorage(tensor).data_ptr() + (nint)(tensor.storage_offset() * tensor.ElementSize);

    [LibraryImport("LibTorchSharp")]
    private static partial nint THSTensor_data(nint handle);

    private static bool ExportAgreesWithStorage()
    {
        using var scope = NewDisposeScope();
        Tensor slice = zeros(8, dtype: ScalarType.BFloat16).narrow(0, 3, 2);
        try
        {
            return THSTensor_data(slice.Handle) == ThroughStorage(slice);
        }
        catch (Exception e) when (e is EntryPointNotFoundException or DllNotFoundException)
        {
            return false;
        }
    }

    private sealed class AddressOnlyStorage(Tensor tensor) : Storage(tensor)
    {
        public override int element_size() => (int)_tensor.ElementSize;
    }
}
