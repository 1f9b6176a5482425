namespace MoEKernels;

/// <summary>
/// A load-bias update on raw addresses, see <see cref="Gate.UpdateBias(MoeContext, in GateBiasUpdateArgs, nint)"/>.
/// </summary>
/// <remarks>
/// An address of 0 means "not given". Strides are distances between two rows in elements, 0 means dense. The memory
/// belongs to the caller and must stay where it is during the call; on CUDA until the work on the stream is done.
/// </remarks>
public readonly record struct GateBiasUpdateArgs
{
    /// <summary>Experts (or ranks), 1 to <see cref="Gate.MaxExperts"/>.</summary>
    public long E { get; init; }

    /// <summary>Element type of Bias: <see cref="DType.F32"/> or <see cref="DType.F64"/>.</summary>
    public DType BiasDType { get; init; }

    /// <summary>What the counts are compared with.</summary>
    public BiasTarget TargetMode { get; init; }

    /// <summary>Step, finite.</summary>
    public double Rate { get; init; }

    /// <summary>Used with <see cref="BiasTarget.Value"/>; finite.</summary>
    public double Target { get; init; }

    /// <summary>[in] int32 [E].</summary>
    public nint Counts { get; init; }

    /// <summary>[in, out] [E].</summary>
    public nint Bias { get; init; }
}
