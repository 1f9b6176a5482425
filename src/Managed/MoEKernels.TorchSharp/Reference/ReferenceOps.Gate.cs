using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Reference;

public static partial class ReferenceOps
{
    /// <summary>
    /// Router logits to expert ids and weights, as <see cref="MoeFunctional.Gate"/>. Ties are broken as <c>topk</c> pleases, NaN
    /// is not treated specially, and a normalising sum of 0 gives NaN.
    /// </summary>
    /// <param name="logits">[.., E].</param>
    /// <param name="k">Active experts per token, 1 to E; not read with <see cref="GateSelect.All"/>.</param>
    /// <param name="options">The maths; its flags are not read.</param>
    /// <param name="bias">[E] where the options use a bias.</param>
    /// <param name="withLogSumExp">Whether to compute the log-sum-exp.</param>
    /// <returns>The decision; ids and counts are int64.</returns>
    public static GateResult Gate(Tensor logits, long k, GateOptions options = default, Tensor? bias = null, bool withLogSumExp = false)
    {
        ArgumentNullException.ThrowIfNull(logits);
        using var scope = NewDisposeScope();
        long experts = logits.size((int)logits.Dimensions - 1);
        Tensor z = logits.to(TensorTypes.Accumulator(logits.dtype));
        if (options.Temperature is not (0 or 1))
            z = z / options.Temperature;
        Tensor? logSumExp = withLogSumExp ? z.logsumexp(-1, keepdim: false) : null;

        (Tensor weights, Tensor? ids) = SelectAndWeigh(z, experts, k, options, bias);
        if (options.WeightScale is not (0 or 1))
            weights = weights * options.WeightScale;
        Tensor? counts = ids?.flatten().bincount(null, minlength: experts);
        return new GateResult(weights, ids, counts, logSumExp).MoveToOuterDisposeScope();
    }

    private static (Tensor Weights, Tensor? Ids) SelectAndWeigh(Tensor z, long experts, long k, GateOptions options, Tensor? bias)
    {
        bool dense = options.Select == GateSelect.All;
        if (options is { Score: GateScore.Softmax, BiasMode: BiasMode.None, Eps: 0, Normalize: not GateNormalize.None } && !dense)
        {
            // softmax, top-k and renormalise is top-k and softmax over the selected, which spares the exponentials of the others.
            (Tensor best, Tensor chosen) = z.topk((int)k, dim: -1);
            Tensor shares = best.softmax(-1);
            return (options.Normalize == GateNormalize.SumToK ? shares * k : shares, chosen);
        }

        Tensor scores = options.Score switch
        {
            GateScore.Softmax => z.softmax(-1),
            GateScore.Sigmoid => z.sigmoid(),
            _ => z,
        };
        Tensor biased = options.BiasMode == BiasMode.None ? scores : scores + bias!;
        Tensor values;
        Tensor? ids = null;
        if (dense)
        {
            values = options.BiasMode == BiasMode.Weight ? biased : scores;
        }
        else
        {
            (values, ids) = biased.topk((int)k, dim: -1);
            if (options.BiasMode == BiasMode.Selection)
                values = scores.gather(-1, ids);
        }

        return (options.Normalize switch
        {
            GateNormalize.SumToOne => values / (values.sum(-1, keepdim: true) + options.Eps),
            GateNormalize.SumToK => values * (dense ? experts : k) / (values.sum(-1, keepdim: true) + options.Eps),
            _ => values,
        }, ids);
    }
}
