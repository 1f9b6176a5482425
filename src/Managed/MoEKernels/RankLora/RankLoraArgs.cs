namespace MoEKernels;

/// <summary>A <see cref="RankLora"/> call on raw addresses of the context's device.</summary>
/// <remarks>
/// An address of 0 means "not given". Strides are distances between two rows in elements, 0 means dense. The memory
/// belongs to the caller and must stay where it is during the call; on CUDA until the work on the stream is done.
/// </remarks>
public readonly record struct RankLoraArgs
{
    /// <summary>Dimensions.</summary>
    public RankLoraShape Shape { get; init; }

    /// <summary>The maths.</summary>
    public RankLoraOptions Options { get; init; }

    /// <summary>Element types.</summary>
    public DTypeSet DTypes { get; init; }

    /// <summary>Row stride of X.</summary>
    public long XStride { get; init; }

    /// <summary>Row stride of RouterInput.</summary>
    public long RouterInputStride { get; init; }

    /// <summary>Row stride of A.</summary>
    public long AStride { get; init; }

    /// <summary>Row stride of B.</summary>
    public long BStride { get; init; }

    /// <summary>Row stride of Wr.</summary>
    public long WrStride { get; init; }

    /// <summary>Row stride of Y.</summary>
    public long YStride { get; init; }

    /// <summary>Row stride of Dy.</summary>
    public long DyStride { get; init; }

    /// <summary>Row stride of Dx.</summary>
    public long DxStride { get; init; }

    /// <summary>Row stride of DRouterInput.</summary>
    public long DRouterInputStride { get; init; }

    /// <summary>Row stride of DA.</summary>
    public long DAStride { get; init; }

    /// <summary>Row stride of DB.</summary>
    public long DBStride { get; init; }

    /// <summary>Row stride of DWr.</summary>
    public long DWrStride { get; init; }

    /// <summary>[in] [T, DIn].</summary>
    public nint X { get; init; }

    /// <summary>[in, optional] [T, DIn]: what the router reads instead of dropout(x).</summary>
    public nint RouterInput { get; init; }

    /// <summary>[in] [R, DIn].</summary>
    public nint A { get; init; }

    /// <summary>[in] [DOut, R] or [R, DOut], see <see cref="BLayout"/>.</summary>
    public nint B { get; init; }

    /// <summary>[in] [R / RankPartition, DIn]; <see cref="RankGate.Router"/> only, else 0.</summary>
    public nint Wr { get; init; }

    /// <summary>[in] [R], accumulator type; 0 with <see cref="BiasMode.None"/>. Gets no gradient.</summary>
    public nint Bias { get; init; }

    /// <summary>[out forward] [T, DOut].</summary>
    public nint Y { get; init; }

    /// <summary>
    /// [out forward; in with <see cref="RankGate.Caller"/> and in backward] int32 [T, K], distinct in a row, best
    /// first.
    /// </summary>
    public nint Ids { get; init; }

    /// <summary>
    /// [out forward; in with <see cref="RankGate.Caller"/> and in backward] [T, K], accumulator type.
    /// </summary>
    public nint Gates { get; init; }

    /// <summary>[out forward, optional; in backward] [T, K], accumulator type: A[ids] x~.</summary>
    public nint U { get; init; }

    /// <summary>
    /// [out forward, optional; in backward] accumulator type: router logits [T, R / RankPartition], or a [T, R] with
    /// <see cref="RankGate.ActivationSoftmax"/>; 0 otherwise.
    /// </summary>
    public nint GateLogits { get; init; }

    /// <summary>[out forward, optional] int32 [R]: how often each rank was selected.</summary>
    public nint Counts { get; init; }

    /// <summary>[in backward] [T, DOut].</summary>
    public nint Dy { get; init; }

    /// <summary>[out backward, optional] [T, DIn].</summary>
    public nint Dx { get; init; }

    /// <summary>[out backward, optional] [T, DIn]; needs RouterInput.</summary>
    public nint DRouterInput { get; init; }

    /// <summary>[out backward, optional] [R, DIn].</summary>
    public nint DA { get; init; }

    /// <summary>[out backward, optional] shape of B.</summary>
    public nint DB { get; init; }

    /// <summary>[out backward, optional] shape of Wr.</summary>
    public nint DWr { get; init; }

    /// <summary>[out backward, optional] [T, K], accumulator type: gradient to the gates.</summary>
    public nint DGates { get; init; }
}
