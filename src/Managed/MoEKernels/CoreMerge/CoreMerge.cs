using MoEKernels.Interop;
using MoEKernels.Native;

namespace MoEKernels;

/// <summary>
/// Core-space merging: a soft mixture of R x R cores between a shared pair of LoRA factors. Per token, with x~ =
/// dropout(x):
/// <code>
/// u = A x~
/// p = softmax(W_g u / temperature) or softmax(W_g x / temperature) or given
/// v = sum_e p_e (u^T C_e)               u is a row vector on the left
/// y (+)= scale * B dropout(v)
/// </code>
/// The merged core is never formed. Backward gives the gradients to x, A, B, C, W_g and p.
/// </summary>
/// <remarks>
/// Source: CoMoL (arXiv 2603.00573), with scale = alpha / R. The forms on spans run on the CPU with dense rows; those
/// on <see cref="CoreMergeArgs"/> take addresses of the context's device.
/// </remarks>
public static unsafe partial class CoreMerge
{
    /// <summary>
    /// Bytes of workspace that <see cref="Forward(MoeContext, in CoreMergeArgs, nint, long, nint)"/> needs. Addresses
    /// are not read.
    /// </summary>
    /// <param name="context">The context of the call to come.</param>
    /// <param name="args">The call to come.</param>
    /// <returns>Bytes on the context's device; 0 when none are needed.</returns>
    /// <exception cref="ArgumentException">An argument is out of its range; the message names it.</exception>
    /// <exception cref="MoeException">The backend does not offer the call.</exception>
    public static long ForwardWorkspace(MoeContext context, in CoreMergeArgs args)
    {
        ArgumentNullException.ThrowIfNull(context);
        Native.CoreMergeArgs native = NativeCoreMergeArgs.Create(args);
        ulong bytes = 0;
        using ContextLease lease = context.Lease();
        NativeError.ThrowIfFailed(NativeMethods.CoreMergeForwardWorkspace(lease.Pointer, &native, &bytes));
        return checked((long)bytes);
    }

    /// <summary>Runs the op on raw addresses.</summary>
    /// <param name="context">The context; its device owns the addresses.</param>
    /// <param name="args">The call.</param>
    /// <param name="workspace">Scratch memory on that device; 0 when none is needed.</param>
    /// <param name="workspaceBytes">Its size, at least what <see cref="ForwardWorkspace"/> says.</param>
    /// <param name="stream">0 on the CPU; on CUDA a <c>cudaStream_t</c>, 0 is the legacy default stream.</param>
    /// <exception cref="ArgumentException">
    /// An argument is out of its range, buffers overlap or the workspace is too small; nothing was written.
    /// </exception>
    /// <exception cref="MoeNumericException">A strict call met a NaN score; nothing was written.</exception>
    /// <exception cref="MoeException">The device failed, or the backend does not offer the call.</exception>
    public static void Forward(
        MoeContext context, in CoreMergeArgs args, nint workspace, long workspaceBytes, nint stream)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentOutOfRangeException.ThrowIfNegative(workspaceBytes);
        Native.CoreMergeArgs native = NativeCoreMergeArgs.Create(args);
        using ContextLease lease = context.Lease();
        NativeError.ThrowIfFailed(NativeMethods.CoreMergeForward(
            lease.Pointer, &native, (void*)workspace, (ulong)workspaceBytes, (void*)stream));
    }

    /// <summary>
    /// Bytes of workspace that <see cref="Backward(MoeContext, in CoreMergeArgs, nint, long, nint)"/> needs. Addresses
    /// are not read.
    /// </summary>
    /// <param name="context">The context of the call to come.</param>
    /// <param name="args">The call to come.</param>
    /// <returns>Bytes on the context's device; 0 when none are needed.</returns>
    /// <exception cref="ArgumentException">An argument is out of its range; the message names it.</exception>
    /// <exception cref="MoeException">The backend does not offer the call.</exception>
    public static long BackwardWorkspace(MoeContext context, in CoreMergeArgs args)
    {
        ArgumentNullException.ThrowIfNull(context);
        Native.CoreMergeArgs native = NativeCoreMergeArgs.Create(args);
        ulong bytes = 0;
        using ContextLease lease = context.Lease();
        NativeError.ThrowIfFailed(NativeMethods.CoreMergeBackwardWorkspace(lease.Pointer, &native, &bytes));
        return checked((long)bytes);
    }

    /// <summary>Runs the gradient of the op on raw addresses.</summary>
    /// <param name="context">The context; its device owns the addresses.</param>
    /// <param name="args">The call.</param>
    /// <param name="workspace">Scratch memory on that device; 0 when none is needed.</param>
    /// <param name="workspaceBytes">Its size, at least what <see cref="BackwardWorkspace"/> says.</param>
    /// <param name="stream">0 on the CPU; on CUDA a <c>cudaStream_t</c>, 0 is the legacy default stream.</param>
    /// <exception cref="ArgumentException">
    /// An argument is out of its range, buffers overlap or the workspace is too small; nothing was written.
    /// </exception>
    /// <exception cref="MoeNumericException">A strict call met a NaN score; nothing was written.</exception>
    /// <exception cref="MoeException">The device failed, or the backend does not offer the call.</exception>
    public static void Backward(
        MoeContext context, in CoreMergeArgs args, nint workspace, long workspaceBytes, nint stream)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentOutOfRangeException.ThrowIfNegative(workspaceBytes);
        Native.CoreMergeArgs native = NativeCoreMergeArgs.Create(args);
        using ContextLease lease = context.Lease();
        NativeError.ThrowIfFailed(NativeMethods.CoreMergeBackward(
            lease.Pointer, &native, (void*)workspace, (ulong)workspaceBytes, (void*)stream));
    }
}
