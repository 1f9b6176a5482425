namespace MoEKernels;

/// <summary>A <see cref="Gate"/> call on raw addresses of the context's device.</summary>
/// <remarks>
/// An address of 0 means "not given". Strides are distances between two rows in elements, 0 means dense. The memory
/// belongs to the caller and must stay where it is during the call; on CUDA until the work on the stream is done.
/// </remarks>
public readonly record struct GateArgs
{
    /// <summary>Dimensions.</summary>
    public GateShape Shape { get; init; }

    /// <summary>The maths.</summary>
    public GateOptions Options { get; init; }

    /// <summary>
    /// Element type of Logits and DLogits. Weights, biases and log-sum-exp are f64 where it is f64, else f32
    /// ("accumulator type").
    /// </summary>
    public DType LogitsDType { get; init; }

    /// <summary>Row stride of Logits.</summary>
    public long LogitsStride { get; init; }

    /// <summary>Row stride of DLogits.</summary>
    public long DLogitsStride { get; init; }

    /// <summary>[in] [T, E].</summary>
    public nint Logits { get; init; }

    /// <summary>[in] [E], accumulator type; 0 with <see cref="BiasMode.None"/>. Gets no gradient.</summary>
    public nint Bias { get; init; }

    /// <summary>[out forward, in backward] int32 [T, K], best first; 0 with <see cref="GateSelect.All"/>.</summary>
    public nint Ids { get; init; }

    /// <summary>
    /// [out forward] [T, K], or [T, E] with <see cref="GateSelect.All"/>, accumulator type. Not read in backward.
    /// </summary>
    public nint Weights { get; init; }

    /// <summary>
    /// [out forward, optional] int32 [E]: how often each id was selected; 0 with <see cref="GateSelect.All"/>.
    /// </summary>
    public nint Counts { get; init; }

    /// <summary>[out forward, optional] [T], accumulator type: log sum_e exp(z_e / temperature).</summary>
    public nint Lse { get; init; }

    /// <summary>[in backward] shape and type of Weights.</summary>
    public nint DWeights { get; init; }

    /// <summary>[in backward, optional] [T], accumulator type: gradient of Lse, for a router z-loss.</summary>
    public nint DLse { get; init; }

    /// <summary>[out backward] [T, E].</summary>
    public nint DLogits { get; init; }
}
