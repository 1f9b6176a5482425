namespace MoEKernels.Tests;

/// <summary>
/// Core-space merging in double precision; it forms the merged core, which the op must not. B is [DOut, R].
/// </summary>
internal sealed class CoreMergeOracle
{
    private CoreMergeOracle(CoreMergeShape shape)
    {
        Y = new double[shape.T * shape.DOut];
        U = new double[shape.T * shape.R];
        P = new double[shape.T * shape.E];
        V = new double[shape.T * shape.R];
    }

    internal double[] Y { get; }

    internal double[] U { get; }

    internal double[] P { get; }

    internal double[] V { get; }

    internal static CoreMergeOracle Forward(CoreMergeShape shape, CoreMergeOptions options, double[] x, double[] a,
        double[] b, double[] c,
        double[] wg, double[] routerInput, double[] callerP)
    {
        CoreMergeOracle result = new(shape);
        int din = (int)shape.DIn, r = (int)shape.R, experts = (int)shape.E;
        double[] mask = Ones(shape.T * din);
        double[] coreMask = Ones(shape.T * r);
        if (options.DropoutP > 0)
        {
            Dropout.Mask(mask, shape.T, din, options.DropoutP, options.DropoutSeed, options.DropoutOffset,
                DropoutStream.Input);
        }

        if (options.DropoutCoreP > 0)
        {
            Dropout.Mask(coreMask, shape.T, r, options.DropoutCoreP, options.DropoutSeed, options.DropoutOffset,
                DropoutStream.Core);
        }

        for (int t = 0; t < shape.T; t++)
        {
            double[] token = x[(t * din)..((t + 1) * din)];
            double[] u = RankLoraOracle.MatVec(a, r, [.. token.Select((value, i) => value * mask[t * din + i])]);
            double[] p = options.Router switch
            {
                CoreRouter.Caller => callerP[(t * experts)..((t + 1) * experts)],
                CoreRouter.Core => Softmax(RankLoraOracle.MatVec(wg, experts, u), options.Temperature),
                _ => Softmax(RankLoraOracle.MatVec(wg, experts, routerInput.Length == 0 ? token
                : routerInput[(t * din)..((t + 1) * din)]), options.Temperature),
            };

            double[] merged = new double[r * r];
            for (int e = 0; e < experts; e++)
            {
                for (int i = 0; i < merged.Length; i++)
                    merged[i] += p[e] * c[e * r * r + i];
            }
            double[] v = [.. Enumerable.Range(0, r).Select(j =>
                Enumerable.Range(0, r).Sum(i => u[i] * merged[i * r + j]))];
            double[] y = RankLoraOracle.MatVec(b, (int)shape.DOut,
                [.. v.Select((value, j) => value * coreMask[t * r + j])]);

            u.CopyTo(result.U, t * r);
            p.CopyTo(result.P, t * experts);
            v.CopyTo(result.V, t * r);
            Array.ConvertAll(y, value => options.Scale * value).CopyTo(result.Y, t * shape.DOut);
        }
        return result;
    }

    private static double[] Softmax(double[] logits, double temperature)
    {
        double divisor = temperature == 0 ? 1 : temperature;
        double[] exponentials = Array.ConvertAll(logits, value => Math.Exp(value / divisor));
        double sum = exponentials.Sum();
        return Array.ConvertAll(exponentials, value => value / sum);
    }

    private static double[] Ones(long count)
    {
        double[] values = new double[count];
        Array.Fill(values, 1);
        return values;
    }
}
