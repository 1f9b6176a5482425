using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

public static partial class MoeFunctional
{
    /// <summary>
    /// Router logits to expert ids and weights. Equal scores: the lower id first; NaN counts as negative infinity; a token without any finite
    /// score gets zero weights.
    /// </summary>
    /// <param name="logits">[.., E], 1 to 4096 experts; f32, bf16, f16 or f64.</param>
    /// <param name="k">Active experts per token, 1 to E; 0 or E with <see cref="GateSelect.All"/>.</param>
    /// <param name="options">The maths; the default is softmax, then top-k, weights as they are.</param>
    /// <param name="bias">[E], f32 (f64 beside f64 logits), where the options use a bias; gets no gradient.</param>
    /// <param name="withLogSumExp">Whether to compute log-sum-exp, for a router z-loss.</param>
    /// <returns>The decision.</returns>
    /// <exception cref="ArgumentException">An argument is out of its range; the message names it.</exception>
    /// <exception cref="MoeBackendUnavailableException">There is no library for the tensor's device.</exception>
    /// <exception cref="MoeUnsupportedException">The tensor is f64 or the call strict, and it is not on the CPU.</exception>
    /// <exception cref="MoeBackwardException">An earlier backward failed.</exception>
    public static GateResult Gate(Tensor logits, long k, GateOptions options = default, Tensor? bias = null, bool withLogSumExp = false)
    {
        BackwardGuard.ThrowIfPending();
        ArgumentNullException.ThrowIfNull(logits);
        GatePlan plan = CheckGate(logits, k, options, bias);
        using var scope = NewDisposeScope();
        var call = new GateCall(plan, bias, withLogSumExp);
        if (!AnyRequiresGrad(logits))
        {
            using var noGrad = no_grad();
            call.Forward(logits);
            return new GateResult(call.Weights!, call.Ids, call.Counts, call.LogSumExp).MoveToOuterDisposeScope();
        }
        Tensor[] outputs = GateFunction.Apply(call, logits);
        return new GateResult(outputs[0], call.Ids, call.Counts, withLogSumExp ? outputs[1] : null).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// One step of loss-free load balancing, in place: bias_e += rate sign(target - counts_e). Sources: arXiv 2412.19437 (DeepSeek-V3),
    /// 2501.15103 (SMoRA).
    /// </summary>
    /// <param name="bias">[E], f32 or f64, contiguous.</param>
    /// <param name="counts">int32 [E].</param>
    /// <param name="rate">Step, finite.</param>
    /// <param name="target">What the counts are compared with; null: their mean.</param>
    /// <exception cref="ArgumentException">An argument is out of its range; the message names it.</exception>
    public static void UpdateGateBias(Tensor bias, Tensor counts, double rate, double? target = null)
    {
        BackwardGuard.ThrowIfPending();
        ArgumentNullException.ThrowIfNull(bias);
        ArgumentNullException.ThrowIfNull(counts);
        OpTensors.CheckShape(bias, [-1], "[E]");
        OpTensors.CheckShape(counts, [bias.size(0)], "[E]");
        OpTensors.CheckType(counts, ScalarType.Int32, string.Empty);
        OpTensors.CheckDevice(counts, bias);
        if (bias.dtype is not (ScalarType.Float32 or ScalarType.Float64))
            throw new ArgumentException($"bias is {bias.dtype}; expected Float32 or Float64.", nameof(bias));
        if (!bias.is_contiguous())
            throw new ArgumentException("bias is not contiguous, and it is changed in place.", nameof(bias));
        OptionChecks.Finite(rate, nameof(rate));
        OptionChecks.Finite(target ?? 0, nameof(target));

        using var countRow = new RowMajor(counts);
        global::MoEKernels.Gate.UpdateBias(MoeContexts.For(bias), new GateBiasUpdateArgs
        {
            E = bias.size(0),
            BiasDType = OpTensors.TypeOf(bias),
            TargetMode = target is null ? BiasTarget.Mean : BiasTarget.Value,
            Rate = rate,
            Target = target ?? 0,
            Counts = countRow.Address,
            Bias = OpTensors.Address(bias),
        }, MoeContexts.Stream);
        GC.KeepAlive(bias);
    }

    private static GatePlan CheckGate(Tensor logits, long k, GateOptions options, Tensor? bias)
    {
        OpTensors.TypeOf(logits);
        int dimensions = (int)logits.Dimensions;
        if (dimensions == 0)
            throw new ArgumentException("logits has no dimension; expected [.., E].", nameof(logits));
        long experts = logits.size(dimensions - 1);
        OptionChecks.InRange(experts, 1, global::MoEKernels.Gate.MaxExperts, "experts (the last dimension of logits)");
        OptionChecks.Defined(options.Select, nameof(options.Select));
        if (options.Select == GateSelect.TopK)
            OptionChecks.InRange(k, 1, experts, nameof(k));
        else if (k != 0 && k != experts)
            throw new ArgumentOutOfRangeException(nameof(k), k, $"Expected 0 or {experts} with {nameof(GateSelect)}.{nameof(GateSelect.All)}.");
        OptionChecks.Finite(options.WeightScale, nameof(options.WeightScale));
        CheckScoring(options.Flags, options.Score, options.BiasMode, options.Normalize, options.Eps, options.Temperature);
        CheckBias(options.BiasMode, bias, experts, logits);
        OpTensors.CheckBackend(logits, options.Flags);
        return new GatePlan(new GateShape(logits.numel() / experts, experts, k), options);
    }

    private static void CheckScoring(CallFlags flags, GateScore score, BiasMode biasMode, GateNormalize normalize, double eps, double temperature)
    {
        OpTensors.CheckFlags(flags, "options");
        OptionChecks.Defined(score, "Score");
        OptionChecks.Defined(biasMode, "BiasMode");
        OptionChecks.Defined(normalize, "Normalize");
        OptionChecks.NotNegative(eps, "Eps");
        OptionChecks.NotNegative(temperature, "Temperature");
    }

    private static void CheckBias(BiasMode mode, Tensor? bias, long experts, Tensor like)
    {
        if (mode == BiasMode.None)
        {
            if (bias is not null)
                throw new ArgumentException($"bias is given, but the options say {nameof(BiasMode)}.{nameof(BiasMode.None)}.", nameof(bias));
            return;
        }
        if (bias is null)
            throw new ArgumentException($"bias is null; expected one, since the options say {nameof(BiasMode)}.{mode}.", nameof(bias));
        OpTensors.CheckShape(bias, [experts], "[E]");
        OpTensors.CheckType(bias, TensorTypes.Accumulator(like.dtype), $" beside {like.dtype}");
        OpTensors.CheckDevice(bias, like, referenceName: "the input");
    }
}
