using MoEKernels.Interop;
using MoEKernels.Native;

namespace MoEKernels;

/// <summary>
/// Router logits to expert ids and weights.
/// <code>
/// s = score(z / temperature)            z = logits, NaN counts as -inf
/// c = s + bias (with a bias) else s
/// ids = the K largest c, ties: lower id first
/// v = c at ids (BiasMode.Weight) else s at ids
/// weights = weight_scale * normalize(v)
/// lse = log sum_e exp(z_e / temperature), counts = histogram of ids
/// </code>
/// Backward gives the gradient to the logits; the selection counts as constant. A row without any finite or +inf score
/// has zero weights, zero gradients and a log-sum-exp of -inf.
/// </summary>
/// <remarks>
/// Sources: DeepSeekMoE (arXiv 2401.06066) for raw softmax weights, DeepSeek-V3 (arXiv 2412.19437) for sigmoid scores
/// with the bias in selection only, SMoRA (arXiv 2501.15103) for the bias in the weight. The forms on spans run on the
/// CPU with dense rows; those on <see cref="GateArgs"/> take addresses of the context's device.
/// </remarks>
public static unsafe partial class Gate
{
    /// <summary>Largest number of experts (or ranks to choose from).</summary>
    public const int MaxExperts = Constants.MaxExperts;

    /// <summary>
    /// Bytes of workspace that <see cref="Forward(MoeContext, in GateArgs, nint, long, nint)"/> needs. Addresses are
    /// not read.
    /// </summary>
    /// <param name="context">The context of the call to come.</param>
    /// <param name="args">The call to come.</param>
    /// <returns>Bytes on the context's device; 0 when none are needed.</returns>
    /// <exception cref="ArgumentException">An argument is out of its range; the message names it.</exception>
    /// <exception cref="MoeException">The backend does not offer the call.</exception>
    public static long ForwardWorkspace(MoeContext context, in GateArgs args)
    {
        ArgumentNullException.ThrowIfNull(context);
        Native.GateArgs native = NativeGateArgs.Create(args);
        ulong bytes = 0;
        using ContextLease lease = context.Lease();
        NativeError.ThrowIfFailed(NativeMethods.GateForwardWorkspace(lease.Pointer, &native, &bytes));
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
    public static void Forward(MoeContext context, in GateArgs args, nint workspace, long workspaceBytes, nint stream)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentOutOfRangeException.ThrowIfNegative(workspaceBytes);
        Native.GateArgs native = NativeGateArgs.Create(args);
        using ContextLease lease = context.Lease();
        NativeError.ThrowIfFailed(
            NativeMethods.GateForward(lease.Pointer, &native, (void*)workspace, (ulong)workspaceBytes, (void*)stream));
    }

    /// <summary>
    /// Bytes of workspace that <see cref="Backward(MoeContext, in GateArgs, nint, long, nint)"/> needs. Addresses are
    /// not read.
    /// </summary>
    /// <param name="context">The context of the call to come.</param>
    /// <param name="args">The call to come.</param>
    /// <returns>Bytes on the context's device; 0 when none are needed.</returns>
    /// <exception cref="ArgumentException">An argument is out of its range; the message names it.</exception>
    /// <exception cref="MoeException">The backend does not offer the call.</exception>
    public static long BackwardWorkspace(MoeContext context, in GateArgs args)
    {
        ArgumentNullException.ThrowIfNull(context);
        Native.GateArgs native = NativeGateArgs.Create(args);
        ulong bytes = 0;
        using ContextLease lease = context.Lease();
        NativeError.ThrowIfFailed(NativeMethods.GateBackwardWorkspace(lease.Pointer, &native, &bytes));
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
    public static void Backward(MoeContext context, in GateArgs args, nint workspace, long workspaceBytes, nint stream)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentOutOfRangeException.ThrowIfNegative(workspaceBytes);
        Native.GateArgs native = NativeGateArgs.Create(args);
        using ContextLease lease = context.Lease();
        NativeError.ThrowIfFailed(
            NativeMethods.GateBackward(lease.Pointer, &native, (void*)workspace, (ulong)workspaceBytes, (void*)stream));
    }

    /// <summary>
    /// One step of loss-free load balancing: bias_e += rate * sign(target - counts_e), sign(0) = 0. Call it once per
    /// optimiser step. Sources: DeepSeek-V3 (arXiv 2412.19437), SMoRA (arXiv 2501.15103), FlyLoRA (arXiv 2510.08396).
    /// </summary>
    /// <param name="context">The context; its device owns the addresses.</param>
    /// <param name="args">The call.</param>
    /// <param name="stream">0 on the CPU; on CUDA a <c>cudaStream_t</c>, 0 is the legacy default stream.</param>
    /// <exception cref="ArgumentException">An argument is out of its range; nothing was written.</exception>
    /// <exception cref="MoeException">The device failed, or the backend does not offer the call.</exception>
    public static void UpdateBias(MoeContext context, in GateBiasUpdateArgs args, nint stream)
    {
        ArgumentNullException.ThrowIfNull(context);
        Native.GateBiasUpdateArgs native = NativeGateArgs.Create(args);
        using ContextLease lease = context.Lease();
        NativeError.ThrowIfFailed(NativeMethods.GateBiasUpdate(lease.Pointer, &native, (void*)stream));
    }
}
