using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>What the header of a safetensors file says of one tensor.</summary>
public sealed class SafetensorsEntry
{
    private readonly long[] _shape;

    internal SafetensorsEntry(string name, string dtype, ScalarType? type, int elementSize, long[] shape, long begin, long length)
    {
        Name = name;
        DType = dtype;
        ScalarType = type;
        ElementSize = elementSize;
        _shape = shape;
        Begin = begin;
        Length = length;
    }

    /// <summary>Name of the tensor.</summary>
    public string Name { get; }

    /// <summary>Element type as the file writes it: F64, F32, F16, BF16, I64, …</summary>
    public string DType { get; }

    /// <summary>Element type in TorchSharp; null: it has none (8-bit floats, unsigned integers above 8 bits), so the tensor cannot be read.</summary>
    public ScalarType? ScalarType { get; }

    /// <summary>Bytes of one element.</summary>
    public int ElementSize { get; }

    /// <summary>Shape; empty for a scalar.</summary>
    public ReadOnlySpan<long> Shape => _shape;

    /// <summary>First byte, counted from the end of the header.</summary>
    public long Begin { get; }

    /// <summary>Bytes of the whole tensor.</summary>
    public long Length { get; }

    /// <summary>Name, type and shape, for people.</summary>
    public override string ToString() => $"{Name}: {DType} [{string.Join(", ", _shape)}]";
}
