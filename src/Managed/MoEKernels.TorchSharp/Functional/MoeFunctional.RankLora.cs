using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

public static partial class MoeFunctional
{
    /// <summary>
    /// Rank-wise sparse LoRA: y = base + scale sum_j B[:, ids_j] gates_j (A[ids_j] x~), x~ = dropout(x), where every rank is an expert.
    /// Sources: arXiv 2501.15103 (SMoRA), 2510.08396 (FlyLoRA), 2506.21035 (MoRA).
    /// </summary>
    /// <param name="x">[.., d_in]; f32, bf16, f16 or f64.</param>
    /// <param name="a">A, [r, d_in]; of x's type, or f32 below bf16 and f16.</param>
    /// <param name="b">B, [d_out, r] or [r, d_out], see the options; of A's type.</param>
    /// <param name="router">W_r, [r / rank partition, d_in], of A's type, with <see cref="RankGate.Router"/>; else null.</param>
    /// <param name="k">Active ranks per token, 1 to r.</param>
    /// <param name="options">The maths. Draw a fresh dropout seed for every call, see <see cref="DrawDropoutSeed"/>.</param>
    /// <param name="bias">[r], f32 (f64 beside f64 x), where the options use a bias; gets no gradient.</param>
    /// <param name="routerInput">What the router reads instead of x~, [.., d_in] of x's type; null: x~.</param>
    /// <param name="ids">int32 [T, k], distinct in a row, with <see cref="RankGate.Caller"/>; else null.</param>
    /// <param name="gates">[T, k], f32 (f64 beside f64 x), with <see cref="RankGate.Caller"/>; else null.</param>
    /// <param name="baseOutput">What the adapter is added to, [.., d_out] of x's type; null: nothing.</param>
    /// <returns>The output and the gate's decision.</returns>
    /// <exception cref="ArgumentException">An argument is out of its range; the message names it.</exception>
    /// <exception cref="MoeBackendUnavailableException">There is no library for the tensors' device.</exception>
    /// <exception cref="MoeUnsupportedException">The tensors are f64 or the call strict, and they are not on the CPU.</exception>
    /// <exception cref="MoeBackwardException">An earlier backward failed.</exception>
    public static RankLoraResult RankLora(
        Tensor x,
        Tensor a,
        Tensor b,
        Tensor? router,
        long k,
        RankLoraOptions options,
        Tensor? bias = null,
        Tensor? routerInput = null,
        Tensor? ids = null,
        Tensor? gates = null,
        Tensor? baseOutput = null) =>
        RunRankLora(new RankLoraInputs(x, a, b, router, routerInput, gates, baseOutput), k, options, bias, ids, reuseBaseOutput: false);

    internal static RankLoraResult RunRankLora(RankLoraInputs inputs, long k, RankLoraOptions options, Tensor? bias, Tensor? ids, bool reuseBaseOutput)
    {
        BackwardGuard.ThrowIfPending();
        RankLoraPlan plan = CheckRankLora(inputs, k, options, bias, ids);
        using var scope = NewDisposeScope();
        var call = new RankLoraCall(plan, bias, ids, reuseBaseOutput);
        Tensor output;
        if (AnyRequiresGrad(inputs.X, inputs.A, inputs.B, inputs.Router, inputs.RouterInput, inputs.Gates, inputs.BaseOutput))
        {
            output = RankLoraFunction.Apply(call, inputs);
        }
        else
        {
            using var noGrad = no_grad();
            call.Forward(inputs, saveForBackward: false);
            output = call.Output!;
        }
        return new RankLoraResult(output, call.Ids!, call.Gates!, call.Counts!).MoveToOuterDisposeScope();
    }

    private static RankLoraPlan CheckRankLora(RankLoraInputs inputs, long k, RankLoraOptions options, Tensor? bias, Tensor? ids)
    {
        (Tensor x, Tensor a, Tensor b, Tensor? router, Tensor? routerInput, Tensor? gates, Tensor? baseOutput) = inputs;
        OptionChecks.Defined(options.Gate, nameof(options.Gate));
        CheckScoring(options.Flags, options.Score, options.BiasMode, options.Normalize, options.Eps, options.Temperature);
        OptionChecks.NotNegative(options.Threshold, nameof(options.Threshold));
        (DTypeSet types, long dIn, long dOut, long rank) = CheckFactors(x, a, b, options.BLayout, options.Scale, options.DropoutP, baseOutput);
        OptionChecks.InRange(rank, 1, global::MoEKernels.Gate.MaxExperts, "ranks (the rows of a)");
        OptionChecks.InRange(k, 1, rank, nameof(k));

        long partition = options.RankPartition == 0 ? 1 : options.RankPartition;
        if (options.Gate == RankGate.Router)
        {
            if (partition < 1 || rank % partition != 0)
                throw OptionChecks.Error($"RankPartition is {options.RankPartition}; expected a divisor of the {rank} ranks.", nameof(options));
            CheckRouter(router, [rank / partition, dIn], "[r / rank partition, d_in]", a, $"{nameof(RankGate)}.{options.Gate}");
        }
        else if (router is not null)
        {
            throw OptionChecks.Error($"router is given, but the options say {nameof(RankGate)}.{options.Gate}.", nameof(router));
        }
        CheckRouterInput(routerInput, x, dIn, options.Gate == RankGate.Router, $"{nameof(RankGate)}.{options.Gate}");
        CheckBias(options.BiasMode, bias, rank, x);

        long tokens = x.numel() / dIn;
        if (options.Gate == RankGate.Caller)
        {
            ArgumentNullException.ThrowIfNull(ids);
            ArgumentNullException.ThrowIfNull(gates);
            OpTensors.CheckShape(ids, [tokens, k], "[T, k]");
            OpTensors.CheckType(ids, ScalarType.Int32, string.Empty);
            OpTensors.CheckDevice(ids, x);
            OpTensors.CheckShape(gates, [tokens, k], "[T, k]");
            OpTensors.CheckType(gates, TensorTypes.Accumulator(x.dtype), $" beside {x.dtype}");
            OpTensors.CheckDevice(gates, x);
        }
        else if (ids is not null || gates is not null)
        {
            throw new ArgumentException($"{(ids is null ? "gates are" : "ids are")} given, but the options say {nameof(RankGate)}.{options.Gate}.", ids is null ? nameof(gates) : nameof(ids));
        }
        OpTensors.CheckBackend(x, options.Flags);
        return new RankLoraPlan(new RankLoraShape(tokens, dIn, dOut, rank, k), options, types);
    }

    private static (DTypeSet Types, long DIn, long DOut, long Rank) CheckFactors(
        Tensor x, Tensor a, Tensor b, BLayout layout, double scale, double dropoutP, Tensor? baseOutput)
    {
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(a);
        ArgumentNullException.ThrowIfNull(b);
        OptionChecks.Defined(layout, "BLayout");
        OptionChecks.Finite(scale, "Scale");
        OptionChecks.Probability(dropoutP, "DropoutP");
        OpTensors.CheckShape(a, [-1, -1], "[r, d_in]");
        (long rank, long dIn) = (a.size(0), a.size(1));
        OptionChecks.InRange(dIn, 1, long.MaxValue, "d_in (the columns of a)");
        OptionChecks.InRange(rank, 1, long.MaxValue, "r (the rows of a)");
        OpTensors.CheckWidth(x, dIn, "d_in");
        OpTensors.CheckShape(b, layout == BLayout.OutByRank ? [-1, rank] : [rank, -1], layout == BLayout.OutByRank ? "[d_out, r]" : "[r, d_out]");
        long dOut = b.size(layout == BLayout.OutByRank ? 0 : 1);
        OptionChecks.InRange(dOut, 1, long.MaxValue, "d_out (of b)");

        DType xType = OpTensors.TypeOf(x);
        DType weightType = OpTensors.TypeOf(a);
        if (!TensorTypes.AreCompatible(x.dtype, a.dtype))
            throw new ArgumentException($"a is {a.dtype} and x is {x.dtype}; expected the same type, or Float32 below BFloat16 or Float16.", nameof(a));
        OpTensors.CheckType(b, a.dtype, " as a");
        OpTensors.CheckDevice(a, x);
        OpTensors.CheckDevice(b, x);
        if (baseOutput is not null)
        {
            OpTensors.CheckLikeWithWidth(baseOutput, x, dOut);
            OpTensors.CheckType(baseOutput, x.dtype, " as x");
            OpTensors.CheckDevice(baseOutput, x);
        }
        return (new DTypeSet(xType, weightType, weightType, xType, weightType), dIn, dOut, rank);
    }

    private static void CheckRouter(Tensor? router, ReadOnlySpan<long> shape, string meaning, Tensor a, string because)
    {
        if (router is null)
            throw new ArgumentException($"router is null; expected one, since the options say {because}.", nameof(router));
        OpTensors.CheckShape(router, shape, meaning);
        OpTensors.CheckType(router, a.dtype, " as a");
        OpTensors.CheckDevice(router, a);
    }

    private static void CheckRouterInput(Tensor? routerInput, Tensor x, long dIn, bool isRead, string because)
    {
        if (routerInput is null)
            return;
        if (!isRead)
            throw new ArgumentException($"routerInput is given, but nothing reads it, since the options say {because}.", nameof(routerInput));
        OpTensors.CheckWidth(routerInput, dIn, "d_in");
        if (routerInput.numel() != x.numel())
            throw new ArgumentException($"routerInput has {routerInput.numel() / dIn} tokens; expected {x.numel() / dIn} as x.", nameof(routerInput));
        OpTensors.CheckType(routerInput, x.dtype, " as x");
        OpTensors.CheckDevice(routerInput, x);
    }
}
