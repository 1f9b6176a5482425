using MoEKernels.Interop;
using MoEKernels.Native;

namespace MoEKernels;

/// <summary>
/// Rank-wise sparse LoRA: every rank is an expert. Per token, with x~ = dropout(x):
/// <code>
/// z = W_r x~ (or W_r router_input)      RankGate.Router: ids, g from z as in Gate
/// u_j = A[ids_j] . x~
/// y (+)= scale * sum_j B[:, ids_j] g_j u_j
/// </code>
/// Backward gives the gradients to x, A, B, W_r and the gates; the selection counts as constant.
/// </summary>
/// <remarks>
/// Sources: SMoRA (arXiv 2501.15103), FlyLoRA (arXiv 2510.08396), MoRA (arXiv 2506.21035). The forms on spans run on
/// the CPU with dense rows; those on <see cref="RankLoraArgs"/> take addresses of the context's device.
/// </remarks>
public static unsafe partial class RankLora
{
    /// <summary>
    /// Bytes of workspace that <see cref="Forward(MoeContext, in RankLoraArgs, nint, long, nint)"/> needs. Addresses
    /// are not read.
    /// </summary>
    /// <param name="context">The context of the call to come.</param>
    /// <param name="args">The call to come.</param>
    /// <returns>Bytes on the context's device; 0 when none are needed.</returns>
    /// <exception cref="ArgumentException">An argument is out of its range; the message names it.</exception>
    /// <exception cref="MoeException">The backend does not offer the call.</exception>
    public static long ForwardWorkspace(MoeContext context, in RankLoraArgs args)
    {
        ArgumentNullException.ThrowIfNull(context);
        Native.RankLoraArgs native = NativeRankLoraArgs.Create(args);
        ulong bytes = 0;
        using ContextLease lease = context.Lease();
        NativeError.ThrowIfFailed(NativeMethods.RankLoraForwardWorkspace(lease.Pointer, &native, &bytes));
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
        MoeContext context, in RankLoraArgs args, nint workspace, long workspaceBytes, nint stream)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentOutOfRangeException.ThrowIfNegative(workspaceBytes);
        Native.RankLoraArgs native = NativeRankLoraArgs.Create(args);
        using ContextLease lease = context.Lease();
        NativeError.ThrowIfFailed(NativeMethods.RankLoraForward(
            lease.Pointer, &native, (void*)workspace, (ulong)workspaceBytes, (void*)stream));
    }

    /// <summary>
    /// Bytes of workspace that <see cref="Backward(MoeContext, in RankLoraArgs, nint, long, nint)"/> needs. Addresses
    /// are not read.
    /// </summary>
    /// <param name="context">The context of the call to come.</param>
    /// <param name="args">The call to come.</param>
    /// <returns>Bytes on the context's device; 0 when none are needed.</returns>
    /// <exception cref="ArgumentException">An argument is out of its range; the message names it.</exception>
    /// <exception cref="MoeException">The backend does not offer the call.</exception>
    public static long BackwardWorkspace(MoeContext context, in RankLoraArgs args)
    {
        ArgumentNullException.ThrowIfNull(context);
        Native.RankLoraArgs native = NativeRankLoraArgs.Create(args);
        ulong bytes = 0;
        using ContextLease lease = context.Lease();
        NativeError.ThrowIfFailed(NativeMethods.RankLoraBackwardWorkspace(lease.Pointer, &native, &bytes));
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
        MoeContext context, in RankLoraArgs args, nint workspace, long workspaceBytes, nint stream)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentOutOfRangeException.ThrowIfNegative(workspaceBytes);
        Native.RankLoraArgs native = NativeRankLoraArgs.Create(args);
        using ContextLease lease = context.Lease();
        NativeError.ThrowIfFailed(NativeMethods.RankLoraBackward(
            lease.Pointer, &native, (void*)workspace, (ulong)workspaceBytes, (void*)stream));
    }
}
