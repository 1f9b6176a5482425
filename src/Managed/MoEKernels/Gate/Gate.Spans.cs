using MoEKernels.Interop;
using MoEKernels.Native;

namespace MoEKernels;

public static unsafe partial class Gate
{
    /// <summary>Runs the gate on host memory. All rows are dense.</summary>
    /// <typeparam name="TX">
    /// Type of the logits: float, double, <see cref="Half"/> or <see cref="BFloat16"/>.
    /// </typeparam>
    /// <typeparam name="TAcc">Accumulator type: double with double logits, else float.</typeparam>
    /// <param name="shape">Dimensions.</param>
    /// <param name="options">The maths.</param>
    /// <param name="logits">[in] [T, E].</param>
    /// <param name="ids">[out] [T, K], best first; empty with <see cref="GateSelect.All"/>.</param>
    /// <param name="weights">[out] [T, K], or [T, E] with <see cref="GateSelect.All"/>.</param>
    /// <param name="bias">[in] [E]; empty with <see cref="BiasMode.None"/>.</param>
    /// <param name="counts">
    /// [out, optional] [E]: how often each id was selected; empty with <see cref="GateSelect.All"/>.
    /// </param>
    /// <param name="lse">[out, optional] [T]: log-sum-exp of the logits.</param>
    /// <param name="context">A CPU context; null: <see cref="MoeContext.Default"/>.</param>
    /// <exception cref="ArgumentException">
    /// An argument is out of its range or has the wrong length, or buffers overlap; nothing was written.
    /// </exception>
    /// <exception cref="MoeNumericException">A strict call met a NaN score; nothing was written.</exception>
    /// <exception cref="MoeException">The native library failed or cannot be loaded.</exception>
    public static void Forward<TX, TAcc>(
        in GateShape shape, in GateOptions options, ReadOnlySpan<TX> logits, Span<int> ids, Span<TAcc> weights,
        ReadOnlySpan<TAcc> bias = default, Span<int> counts = default, Span<TAcc> lse = default,
        MoeContext? context = null)
        where TX : unmanaged
        where TAcc : unmanaged
    {
        DType type = SpanTypes.Of<TX>(nameof(logits));
        SpanTypes.RequireAccumulator<TX, TAcc>(nameof(weights));
        GateChecks.Check(shape, options);
        CheckRows(shape, options, logits.Length, ids.Length, weights.Length, nameof(weights), bias.Length);
        if (options.Select == GateSelect.All)
            Require.Empty(counts.Length, "with GateSelect.All", nameof(counts));
        else
            Require.LengthOrEmpty(counts.Length, shape.E, "[E]", nameof(counts));
        Require.LengthOrEmpty(lse.Length, shape.T, "[T]", nameof(lse));
        context = Require.Host(context);

        fixed (TX* logitsPointer = logits)
        fixed (TAcc* weightsPointer = weights, biasPointer = bias, lsePointer = lse)
        fixed (int* idsPointer = ids, countsPointer = counts)
        {
            Native.GateArgs native = NativeGateArgs.Create(shape, options, type);
            native.Logits = logitsPointer;
            native.Bias = biasPointer;
            native.Ids = idsPointer;
            native.Weights = weightsPointer;
            native.Counts = countsPointer;
            native.Lse = lsePointer;

            using ContextLease lease = context.Lease();
            ulong bytes = 0;
            NativeError.ThrowIfFailed(NativeMethods.GateForwardWorkspace(lease.Pointer, &native, &bytes));
            using HostWorkspace workspace = new(bytes);
            NativeError.ThrowIfFailed(
                NativeMethods.GateForward(lease.Pointer, &native, workspace.Pointer, workspace.Bytes, null));
        }
    }

    /// <summary>Runs the gradient of the gate on host memory. All rows are dense.</summary>
    /// <typeparam name="TX">
    /// Type of the logits: float, double, <see cref="Half"/> or <see cref="BFloat16"/>.
    /// </typeparam>
    /// <typeparam name="TAcc">Accumulator type: double with double logits, else float.</typeparam>
    /// <param name="shape">Dimensions, as in forward.</param>
    /// <param name="options">The maths, as in forward.</param>
    /// <param name="logits">[in] [T, E].</param>
    /// <param name="ids">[in] [T, K] as forward gave them; empty with <see cref="GateSelect.All"/>.</param>
    /// <param name="dWeights">
    /// [in] [T, K], or [T, E] with <see cref="GateSelect.All"/>: gradient to the weights.
    /// </param>
    /// <param name="dLogits">[out] [T, E].</param>
    /// <param name="bias">[in] [E] as in forward; empty with <see cref="BiasMode.None"/>.</param>
    /// <param name="dLse">[in, optional] [T]: gradient to the log-sum-exp, for a router z-loss.</param>
    /// <param name="context">A CPU context; null: <see cref="MoeContext.Default"/>.</param>
    /// <exception cref="ArgumentException">
    /// An argument is out of its range or has the wrong length, or buffers overlap; nothing was written.
    /// </exception>
    /// <exception cref="MoeNumericException">A strict call met a NaN score; nothing was written.</exception>
    /// <exception cref="MoeException">The native library failed or cannot be loaded.</exception>
    public static void Backward<TX, TAcc>(
        in GateShape shape, in GateOptions options, ReadOnlySpan<TX> logits, ReadOnlySpan<int> ids,
        ReadOnlySpan<TAcc> dWeights, Span<TX> dLogits, ReadOnlySpan<TAcc> bias = default,
        ReadOnlySpan<TAcc> dLse = default, MoeContext? context = null)
        where TX : unmanaged
        where TAcc : unmanaged
    {
        DType type = SpanTypes.Of<TX>(nameof(logits));
        SpanTypes.RequireAccumulator<TX, TAcc>(nameof(dWeights));
        GateChecks.Check(shape, options);
        CheckRows(shape, options, logits.Length, ids.Length, dWeights.Length, nameof(dWeights), bias.Length);
        Require.Length(dLogits.Length, Require.Elements(shape.T, shape.E), "[T, E]", nameof(dLogits));
        Require.LengthOrEmpty(dLse.Length, shape.T, "[T]", nameof(dLse));
        context = Require.Host(context);

        fixed (TX* logitsPointer = logits, dLogitsPointer = dLogits)
        fixed (TAcc* dWeightsPointer = dWeights, biasPointer = bias, dLsePointer = dLse)
        fixed (int* idsPointer = ids)
        {
            Native.GateArgs native = NativeGateArgs.Create(shape, options, type);
            native.Logits = logitsPointer;
            native.Bias = biasPointer;
            native.Ids = idsPointer;
            native.Dweights = dWeightsPointer;
            native.Dlse = dLsePointer;
            native.Dlogits = dLogitsPointer;

            using ContextLease lease = context.Lease();
            ulong bytes = 0;
            NativeError.ThrowIfFailed(NativeMethods.GateBackwardWorkspace(lease.Pointer, &native, &bytes));
            using HostWorkspace workspace = new(bytes);
            NativeError.ThrowIfFailed(
                NativeMethods.GateBackward(lease.Pointer, &native, workspace.Pointer, workspace.Bytes, null));
        }
    }

    /// <summary>
    /// One step of loss-free load balancing on host memory: bias_e += rate * sign(target - counts_e), sign(0) = 0. Call
    /// it once per optimiser step. Sources: DeepSeek-V3 (arXiv 2412.19437), SMoRA (arXiv 2501.15103), FlyLoRA (arXiv
    /// 2510.08396).
    /// </summary>
    /// <typeparam name="TAcc">float or double.</typeparam>
    /// <param name="counts">[in] [E]: how often each expert was selected since the last step.</param>
    /// <param name="bias">[in, out] [E].</param>
    /// <param name="rate">Step, finite.</param>
    /// <param name="target">What the counts are compared with, finite; null: their mean.</param>
    /// <param name="context">A CPU context; null: <see cref="MoeContext.Default"/>.</param>
    /// <exception cref="ArgumentException">
    /// An argument is out of its range or has the wrong length; nothing was written.
    /// </exception>
    /// <exception cref="MoeException">The native library failed or cannot be loaded.</exception>
    public static void UpdateBias<TAcc>(
        ReadOnlySpan<int> counts, Span<TAcc> bias, double rate, double? target = null, MoeContext? context = null)
        where TAcc : unmanaged
    {
        DType type = SpanTypes.Of<TAcc>(nameof(bias));
        if (type is not (DType.F32 or DType.F64))
        {
            throw new ArgumentException(
                $"{nameof(bias)}: got elements of type {typeof(TAcc)}, expected float or double.", nameof(bias));
        }

        Require.Dimension(counts.Length, 1, MaxExperts, nameof(counts), "counts.Length");
        Require.Length(bias.Length, counts.Length, "the length of counts", nameof(bias));
        Require.Option(double.IsFinite(rate), rate, "a finite number", nameof(rate), nameof(rate));
        Require.Option(double.IsFinite(target ?? 0), target ?? 0, "a finite number", nameof(target), nameof(target));
        context = Require.Host(context);
        fixed (int* countsPointer = counts)
        fixed (TAcc* biasPointer = bias)
        {
            UpdateBias(context, new GateBiasUpdateArgs
            {
                E = counts.Length,
                BiasDType = type,
                TargetMode = target is null ? BiasTarget.Mean : BiasTarget.Value,
                Rate = rate,
                Target = target ?? 0,
                Counts = (nint)countsPointer,
                Bias = (nint)biasPointer,
            }, 0);
        }
    }

    private static void CheckRows(
        in GateShape shape, in GateOptions options, int logits, int ids, int weights, string weightsName, int bias)
    {
        Require.Length(logits, Require.Elements(shape.T, shape.E), "[T, E]", nameof(logits));
        if (options.Select == GateSelect.All)
            Require.Empty(ids, "with GateSelect.All", nameof(ids));
        else
            Require.Length(ids, Require.Elements(shape.T, shape.K), "[T, K]", nameof(ids));
        Require.Length(weights, Require.Elements(shape.T, GateChecks.Kept(shape, options)),
            options.Select == GateSelect.All ? "[T, E]" : "[T, K]", weightsName);
        if (options.BiasMode == BiasMode.None)
            Require.Empty(bias, "with BiasMode.None", nameof(bias));
        else
            Require.Length(bias, shape.E, "[E]", nameof(bias));
    }
}
