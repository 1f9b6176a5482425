namespace MoEKernels.Tests;

/// <summary>The gate in double precision, one row at a time, written from the formulas of the header.</summary>
internal static class GateOracle
{
    internal static (int[] Ids, double[] Weights, double Lse) Row(ReadOnlySpan<double> logits, int k,
        GateOptions options, ReadOnlySpan<double> bias)
    {
        int experts = logits.Length;
        double temperature = options.Temperature == 0 ? 1 : options.Temperature;
        double[] z = new double[experts];
        for (int e = 0; e < experts; e++)
            z[e] = double.IsNaN(logits[e]) ? double.NegativeInfinity : logits[e] / temperature;

        double max = z.Max();
        bool isDead = double.IsNegativeInfinity(max);
        double sum = z.Sum(value => Math.Exp(value - max));
        double lse = isDead ? double.NegativeInfinity : max + Math.Log(sum);

        double[] scores = new double[experts];
        double[] selection = new double[experts];
        for (int e = 0; e < experts; e++)
        {
            scores[e] = options.Score switch
            {
                GateScore.Softmax => isDead ? 0 : Math.Exp(z[e] - lse),
                GateScore.Sigmoid => 1 / (1 + Math.Exp(-z[e])),
                _ => z[e],
            };
            selection[e] = options.BiasMode == BiasMode.None ? scores[e] : scores[e] + bias[e];
        }

        int[] ids = options.Select == GateSelect.All
            ? [.. Enumerable.Range(0, experts)]
            : [.. Enumerable.Range(0, experts).OrderByDescending(e => selection[e]).ThenBy(e => e).Take(k)];
        double[] kept = Array.ConvertAll(ids, e => options.BiasMode == BiasMode.Weight ? selection[e] : scores[e]);
        double divisor = options.Normalize == GateNormalize.None ? 1 : kept.Sum() + options.Eps;
        double factor = (options.WeightScale == 0 ? 1 : options.WeightScale) * (
            options.Normalize == GateNormalize.SumToK ? ids.Length : 1);
        double[] weights = Array.ConvertAll(kept, value => isDead || divisor == 0 ? 0 : factor * value / divisor);
        return (ids, weights, lse);
    }
}
