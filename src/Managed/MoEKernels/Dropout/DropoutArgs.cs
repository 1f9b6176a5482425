namespace MoEKernels;

/// <summary>A <see cref="Dropout"/> mask on a raw address of the context's device.</summary>
public readonly record struct DropoutArgs
{
    /// <summary>Rows, at least 0.</summary>
    public long T { get; init; }

    /// <summary>Columns, at least 1.</summary>
    public long D { get; init; }

    /// <summary>Probability that an element is dropped, 0 &lt;= p &lt; 1.</summary>
    public double P { get; init; }

    /// <summary>Seed.</summary>
    public ulong Seed { get; init; }

    /// <summary>Offset.</summary>
    public ulong Offset { get; init; }

    /// <summary>Which of the streams.</summary>
    public DropoutStream Stream { get; init; }

    /// <summary>Element type of Mask.</summary>
    public DType MaskDType { get; init; }

    /// <summary>Distance between two rows of Mask in elements; 0 means D.</summary>
    public long MaskStride { get; init; }

    /// <summary>[out] [T, D].</summary>
    public nint Mask { get; init; }
}
