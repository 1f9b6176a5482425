namespace MoEKernels;

/// <summary>A <see cref="CoreMerge"/> call on raw addresses of the context's device.</summary>
/// <remarks>
/// An address of 0 means "not given". Strides are distances between two rows in elements, 0 means dense. The memory
/// belongs to the caller and must stay where it is during the call; on CUDA until the work on the stream is done.
/// </remarks>
public readonly record struct CoreMergeArgs
{
    /// <summary>Dimensions.</summary>
    public CoreMergeShape Shape { get; init; }

    /// <summary>The maths.</summary>
    public CoreMergeOptions Options { get; init; }

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

    /// <summary>Row stride of Wg.</summary>
    public long WgStride { get; init; }

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

    /// <summary>Row stride of DWg.</summary>
    public long DWgStride { get; init; }

    /// <summary>[in] [T, DIn].</summary>
    public nint X { get; init; }

    /// <summary>
    /// [in, optional] [T, DIn]: what the router reads instead of x; <see cref="CoreRouter.Input"/> only.
    /// </summary>
    public nint RouterInput { get; init; }

    /// <summary>[in] [R, DIn].</summary>
    public nint A { get; init; }

    /// <summary>[in] [DOut, R] or [R, DOut], see <see cref="BLayout"/>.</summary>
    public nint B { get; init; }

    /// <summary>[in] [E, R, R], dense.</summary>
    public nint C { get; init; }

    /// <summary>
    /// [in] [E, R] (<see cref="CoreRouter.Core"/>) or [E, DIn] (<see cref="CoreRouter.Input"/>); 0 with
    /// <see cref="CoreRouter.Caller"/>.
    /// </summary>
    public nint Wg { get; init; }

    /// <summary>[out forward] [T, DOut].</summary>
    public nint Y { get; init; }

    /// <summary>[out forward, optional; in backward] [T, R], accumulator type: A x~.</summary>
    public nint U { get; init; }

    /// <summary>
    /// [out forward, optional; in with <see cref="CoreRouter.Caller"/> and in backward] [T, E], accumulator type:
    /// mixing weights.
    /// </summary>
    public nint P { get; init; }

    /// <summary>
    /// [out forward, optional; in backward] [T, R] before its dropout, accumulator type: merged core times u.
    /// </summary>
    public nint V { get; init; }

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

    /// <summary>[out backward, optional] [E, R, R], dense.</summary>
    public nint DC { get; init; }

    /// <summary>[out backward, optional] shape of Wg.</summary>
    public nint DWg { get; init; }

    /// <summary>[out backward, optional] [T, E], accumulator type: gradient to p.</summary>
    public nint Dp { get; init; }
}
