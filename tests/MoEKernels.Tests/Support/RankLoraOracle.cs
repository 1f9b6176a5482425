namespace MoEKernels.Tests;

/// <summary>
/// Rank-wise LoRA in double precision, one token at a time, written from the formulas of the header. B is [DOut, R].
/// </summary>
internal sealed class RankLoraOracle
{
    private RankLoraOracle(RankLoraShape shape)
    {
        Y = new double[shape.T * shape.DOut];
        Ids = new int[shape.T * shape.K];
        Gates = new double[shape.T * shape.K];
        U = new double[shape.T * shape.K];
    }

    internal double[] Y { get; }

    internal int[] Ids { get; }

    internal double[] Gates { get; }

    internal double[] U { get; }

    internal static RankLoraOracle Forward(RankLoraShape shape, RankLoraOptions options, double[] x, double[] a,
        double[] b,
        double[] wr, double[] bias, double[] routerInput, int[] callerIds, double[] callerGates)
    {
        RankLoraOracle result = new(shape);
        int din = (int)shape.DIn, dout = (int)shape.DOut, r = (int)shape.R, k = (int)shape.K;
        double[] mask = new double[shape.T * din];
        Array.Fill(mask, 1);
        if (options.DropoutP > 0)
            Dropout.Mask(mask, shape.T, din, options.DropoutP, options.DropoutSeed, options.DropoutOffset);

        for (int t = 0; t < shape.T; t++)
        {
            double[] dropped = [.. Enumerable.Range(0, din).Select(c => x[t * din + c] * mask[t * din + c])];
            double[] activations = MatVec(a, r, dropped);
            double[] input = routerInput.Length == 0 ? dropped : routerInput[(t * din)..((t + 1) * din)];
            (int[] ids, double[] gates) = Select(shape, options, activations, wr, bias, input, () =>
                (callerIds[(t * k)..((t + 1) * k)], callerGates[(t * k)..((t + 1) * k)]));
            for (int j = 0; j < k; j++)
            {
                result.Ids[t * k + j] = ids[j];
                result.Gates[t * k + j] = gates[j];
                result.U[t * k + j] = activations[ids[j]];
                for (int o = 0; o < dout; o++)
                    result.Y[t * dout + o] += options.Scale * b[o * r + ids[j]] * gates[j] * activations[ids[j]];
            }
        }
        return result;
    }

    internal static double[] MatVec(double[] matrix, int rows, double[] vector) =>
        [.. Enumerable.Range(0, rows).Select(row =>
        FiniteDifference.Dot(matrix[(row * vector.Length)..((row + 1) * vector.Length)], vector))];

    private static (int[] Ids, double[] Gates) Select(RankLoraShape shape, RankLoraOptions options,
        double[] activations, double[] wr,
        double[] bias, double[] routerInput, Func<(int[], double[])> caller)
    {
        int r = (int)shape.R, k = (int)shape.K;
        double Biased(int rank) => activations[rank] + (options.BiasMode == BiasMode.None ? 0 : bias[rank]);
        switch (options.Gate)
        {
            case RankGate.Caller:
                return caller();
            case RankGate.Router:
                int partition = (int)Math.Max(1, options.RankPartition);
                double[] rows = MatVec(wr, r / partition, routerInput);
                double[] logits = [.. Enumerable.Range(0, r).Select(rank => rows[rank / partition])];
                var row = GateOracle.Row(logits, k, new GateOptions
                {
                    Score = options.Score,
                    BiasMode = options.BiasMode,
                    Normalize = options.Normalize,
                    Eps = options.Eps,
                    Temperature = options.Temperature,
                }, bias);
                return (row.Ids, row.Weights);
            case RankGate.ActivationSoftmax:
                double norm = Math.Sqrt(activations.Sum(value => value * value)) + options.Eps;
                double temperature = options.Temperature == 0 ? 1 : options.Temperature;
                double[] exponentials = [.. activations.Select(value => Math.Exp(value / norm / temperature))];
                double[] weights = [.. exponentials.Select(value => value / exponentials.Sum())];
                int[] best = [.. Enumerable.Range(0, r).OrderByDescending(rank => weights[rank]).ThenBy(rank =>
                    rank).Take(k)];
                double[] kept = Array.ConvertAll(best, rank => weights[rank] >= options.Threshold ? weights[rank] : 0);
                double divisor = options.Normalize == GateNormalize.None ? 1 : kept.Sum();
                double factor = options.Normalize == GateNormalize.SumToK ? k : 1;
                return (best, Array.ConvertAll(kept, value => divisor == 0 ? 0 : factor * value / divisor));
            default:
                int[] ids = [.. Enumerable.Range(0, r)
                    .OrderByDescending(rank => options.Gate == RankGate.ActivationSigned ? Biased(rank)
                        : Math.Abs(Biased(rank)))
                    .ThenBy(rank => rank).Take(k)];
                return (ids, [.. Enumerable.Repeat(1d, k)]);
        }
    }
}
