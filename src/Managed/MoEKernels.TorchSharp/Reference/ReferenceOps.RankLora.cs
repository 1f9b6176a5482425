using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Reference;

public static partial class ReferenceOps
{
    /// <summary>
    /// Rank-wise sparse LoRA, as <see cref="MoeFunctional.RankLora"/>: all ranks in one product, the inactive ones masked, which beats gathering
    /// them on every device that TorchSharp runs on. Sources: arXiv 2501.15103 (SMoRA), 2510.08396 (FlyLoRA), 2506.21035 (MoRA).
    /// </summary>
    /// <param name="x">[.., d_in].</param>
    /// <param name="a">A, [r, d_in].</param>
    /// <param name="b">B, [d_out, r] or [r, d_out], see the options.</param>
    /// <param name="router">W_r, [r / rank partition, d_in], with <see cref="RankGate.Router"/>; else null.</param>
    /// <param name="k">Active ranks per token, 1 to r.</param>
    /// <param name="options">
    /// The maths. Dropout seed, offset and flags are not read: the mask comes from TorchSharp's generator, or from
    /// <paramref name="dropoutMask"/>.
    /// </param>
    /// <param name="bias">[r] where the options use a bias.</param>
    /// <param name="routerInput">What the router reads instead of dropout(x), [.., d_in].</param>
    /// <param name="ids">int64 [T, k] with <see cref="RankGate.Caller"/>.</param>
    /// <param name="gates">[T, k] with <see cref="RankGate.Caller"/>.</param>
    /// <param name="dropoutMask">Mask with the values 0 and 1 / (1 - p), [T, d_in] of x's type, instead of a random one.</param>
    /// <returns>The output; ids and counts are int64.</returns>
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
        Tensor? dropoutMask = null)
    {
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(a);
        ArgumentNullException.ThrowIfNull(b);
        using var scope = NewDisposeScope();
        long ranks = a.size(0);
        Tensor rows = Drop(x.reshape(-1, a.size(1)), options.DropoutP, dropoutMask).to(a.dtype);
        Tensor down = nn.functional.linear(rows, a).to(TensorTypes.Accumulator(x.dtype));

        if (options.Gate == RankGate.Router)
        {
            Tensor logits = nn.functional.linear(routerInput is null ? rows : routerInput.reshape(-1, a.size(1)).to(a.dtype), router!);
            if (options.RankPartition > 1)
                logits = logits.repeat_interleave(options.RankPartition, dim: -1);
            GateResult decision = Gate(logits, k, GateOptionsOf(options), bias);
            (gates, ids) = (decision.Weights, decision.Ids!);
        }
        else if (options.Gate != RankGate.Caller)
        {
            (gates, ids) = GateByActivation(down, k, options, bias);
        }

        // [T, k] values scattered over [T, r]: the scale goes on the small tensor.
        Tensor hidden = zeros_like(down).scatter(-1, ids!, down.gather(-1, ids!) * gates! * options.Scale).to(b.dtype);
        Tensor y = options.BLayout == BLayout.OutByRank ? nn.functional.linear(hidden, b) : hidden.matmul(b);
        long[] shape = x.shape;
        shape[^1] = y.size(1);
        Tensor counts = ids!.flatten().bincount(null, minlength: ranks);
        return new RankLoraResult(y.to(x.dtype).reshape(shape), ids.alias(), gates!.detach(), counts).MoveToOuterDisposeScope();
    }

    /// <summary>The gate part of rank-wise LoRA with a router, in the terms of <see cref="Gate"/>.</summary>
    internal static GateOptions GateOptionsOf(RankLoraOptions options) => new()
    {
        Score = options.Score,
        BiasMode = options.BiasMode,
        Normalize = options.Normalize,
        Eps = options.Eps,
        Temperature = options.Temperature,
    };

    private static (Tensor Gates, Tensor Ids) GateByActivation(Tensor a, long k, RankLoraOptions options, Tensor? bias)
    {
        if (options.Gate == RankGate.ActivationSoftmax)
        {
            double temperature = options.Temperature == 0 ? 1 : options.Temperature;
            Tensor norm = a.square().sum(-1, keepdim: true).sqrt() + options.Eps;
            (Tensor weights, Tensor chosen) = (a / (norm * temperature)).softmax(-1).topk((int)k, dim: -1);
            if (options.Threshold > 0)
                weights = weights * (weights >= options.Threshold).to(weights.dtype);
            if (options.Normalize == GateNormalize.None)
                return (weights, chosen);
            // A token whose every rank is below the threshold keeps gates of 0.
            Tensor sum = weights.sum(-1, keepdim: true);
            weights = weights / (sum + (sum == 0).to(sum.dtype));
            return (options.Normalize == GateNormalize.SumToK ? weights * k : weights, chosen);
        }

        using var noGrad = no_grad();
        Tensor scores = options.BiasMode == BiasMode.Selection ? a + bias! : a;
        if (options.Gate == RankGate.ActivationAbsolute)
            scores = scores.abs();
        Tensor ids = scores.topk((int)k, dim: -1).indexes;
        return (ones(ids.shape, dtype: a.dtype, device: a.device), ids);
    }

    private static Tensor Drop(Tensor rows, double p, Tensor? mask)
    {
        if (mask is not null)
            return rows * mask;
        return p > 0 ? nn.functional.dropout(rows, p, training: true) : rows;
    }
}
