using MoEKernels.Interop;

namespace MoEKernels;

/// <summary>Checks of the dimensions and options of <see cref="RankLora"/>, before anything is pinned.</summary>
internal static class RankLoraChecks
{
    internal static void Check(in RankLoraShape shape, in RankLoraOptions options)
    {
        Options(options);
        Require.Dimension(shape.T, 0, long.MaxValue, nameof(shape), nameof(shape.T));
        Require.Dimension(shape.DIn, 1, long.MaxValue, nameof(shape), nameof(shape.DIn));
        Require.Dimension(shape.DOut, 1, long.MaxValue, nameof(shape), nameof(shape.DOut));
        Require.Dimension(shape.R, 1, Gate.MaxExperts, nameof(shape), nameof(shape.R));
        Require.Dimension(shape.K, 1, shape.R, nameof(shape), nameof(shape.K));
        if (options.RankPartition > 1)
        {
            Require.Option(options.Gate == RankGate.Router, options.RankPartition, "0 or 1 without a router",
                nameof(options), nameof(options.RankPartition));
            Require.Option(shape.R % options.RankPartition == 0, options.RankPartition, "a divisor of R",
                nameof(options), nameof(options.RankPartition));
        }
    }

    /// <summary>Rows of W_r; 0 without a router.</summary>
    internal static long RouterRows(in RankLoraShape shape, in RankLoraOptions options) =>
        options.Gate == RankGate.Router ? shape.R / Math.Max(1, options.RankPartition) : 0;

    /// <summary>Values per row of the saved gate logits; 0 where the gate has none.</summary>
    internal static long LogitColumns(in RankLoraShape shape, in RankLoraOptions options) => options.Gate switch
    {
        RankGate.Router => RouterRows(shape, options),
        RankGate.ActivationSoftmax => shape.R,
        _ => 0,
    };

    private static void Options(in RankLoraOptions options)
    {
        Require.Flags(options.Flags);
        Require.Defined((uint)options.BLayout, (uint)BLayout.RankByOut, nameof(options), nameof(options.BLayout));
        Require.Defined((uint)options.Gate, (uint)RankGate.ActivationSoftmax, nameof(options), nameof(options.Gate));
        Require.Defined((uint)options.Score, (uint)GateScore.Identity, nameof(options), nameof(options.Score));
        Require.Defined((uint)options.BiasMode, (uint)BiasMode.Weight, nameof(options), nameof(options.BiasMode));
        Require.Defined((uint)options.Normalize, (uint)GateNormalize.SumToK, nameof(options),
            nameof(options.Normalize));
        Require.Dimension(options.RankPartition, 0, long.MaxValue, nameof(options), nameof(options.RankPartition));
        Require.NotNegative(options.Eps, nameof(options.Eps));
        Require.NotNegative(options.Temperature, nameof(options.Temperature));
        Require.NotNegative(options.Threshold, nameof(options.Threshold));
        Require.Probability(options.DropoutP, nameof(options.DropoutP));
    }
}
