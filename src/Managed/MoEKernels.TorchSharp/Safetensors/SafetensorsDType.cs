using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>The element types of the safetensors format and their TorchSharp twins.</summary>
internal static class SafetensorsDType
{
    private static readonly (string Name, ScalarType? Type, int Size)[] Known =
    [
        ("F64", ScalarType.Float64, 8),
        ("I64", ScalarType.Int64, 8),
        ("F32", ScalarType.Float32, 4),
        ("I32", ScalarType.Int32, 4),
        ("F16", ScalarType.Float16, 2),
        ("BF16", ScalarType.BFloat16, 2),
        ("I16", ScalarType.Int16, 2),
        ("I8", ScalarType.Int8, 1),
        ("U8", ScalarType.Byte, 1),
        ("BOOL", ScalarType.Bool, 1),
        // In the format, but not in TorchSharp: such a tensor may stand in a file beside others that are read.
        ("U64", null, 8),
        ("C64", null, 8),
        ("U32", null, 4),
        ("U16", null, 2),
        ("F8_E4M3", null, 1),
        ("F8_E5M2", null, 1),
        ("F8_E8M0", null, 1),
    ];

    /// <summary>The types that can be read and written.</summary>
    public static string Names => string.Join(", ", Known.Where(entry => entry.Type is not null).Select(entry => entry.Name));

    public static bool TryParse(string name, out ScalarType? type, out int size)
    {
        foreach (var entry in Known)
        {
            if (entry.Name == name)
            {
                (type, size) = (entry.Type, entry.Size);
                return true;
            }
        }
        (type, size) = (null, 0);
        return false;
    }

    public static (string Name, int Size) Of(ScalarType type)
    {
        foreach (var entry in Known)
        {
            if (entry.Type == type)
                return (entry.Name, entry.Size);
        }
        throw new NotSupportedException($"A tensor of {type} cannot be saved; safetensors knows {Names}.");
    }
}
