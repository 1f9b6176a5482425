using System.Text;
using MoEKernels.Native;

namespace MoEKernels.Interop;

/// <summary>
/// Compares the loaded library with what the bindings were generated from: version, then every struct and field.
/// </summary>
internal static unsafe class AbiHandshake
{
    /// <summary>Returns what differs, or null when all fits.</summary>
    internal static string? FindMismatch()
    {
        int version = NativeMethods.AbiVersion();
        if (version != Constants.AbiVersion)
            return $"it speaks version {version} of the ABI, this assembly version {Constants.AbiVersion}";
        foreach (NativeStruct type in NativeLayout.Structs)
        {
            if (FindMismatch(type) is { } mismatch)
                return mismatch;
        }
        return null;
    }

    internal static string? FindMismatch(NativeStruct type)
    {
        if (Compare(type.Name, null, 0, type.ManagedSize) is { } mismatch)
            return mismatch;
        foreach (NativeField field in type.Fields)
        {
            if (Compare(type.Name, field.Name, field.ManagedOffset, field.ManagedSize) is { } fieldMismatch)
                return fieldMismatch;
        }
        return null;
    }

    private static string? Compare(string type, string? field, int offset, int size)
    {
        ulong nativeOffset = 0;
        ulong nativeSize = 0;
        int status;
        fixed (byte* typeName = Encoding.UTF8.GetBytes(type + '\0'))
        fixed (byte* fieldName = field is null ? null : Encoding.UTF8.GetBytes(field + '\0'))
            status = NativeMethods.StructLayout(typeName, fieldName, &nativeOffset, &nativeSize);

        string name = field is null ? type : $"{type}.{field}";
        if (status != (int)MoeStatus.Ok)
            return $"it does not know {name}: {NativeError.Describe(status)}";
        if (nativeOffset != (ulong)offset || nativeSize != (ulong)size)
            return $"{name} has {nativeSize} bytes at {nativeOffset} there, {size} bytes at offset {offset} here";
        return null;
    }
}
