using MoEKernels.Interop;

namespace MoEKernels;

/// <summary>Checks of the dimensions and options of <see cref="CoreMerge"/>, before anything is pinned.</summary>
internal static class CoreMergeChecks
{
    internal static void Check(in CoreMergeShape shape, in CoreMergeOptions options)
    {
        Options(options);
        Require.Dimension(shape.T, 0, long.MaxValue, nameof(shape), nameof(shape.T));
        Require.Dimension(shape.DIn, 1, long.MaxValue, nameof(shape), nameof(shape.DIn));
        Require.Dimension(shape.DOut, 1, long.MaxValue, nameof(shape), nameof(shape.DOut));
        Require.Dimension(shape.R, 1, long.MaxValue, nameof(shape), nameof(shape.R));
        Require.Dimension(shape.E, 1, Gate.MaxExperts, nameof(shape), nameof(shape.E));
    }

    /// <summary>Elements of W_g; 0 without a router.</summary>
    internal static long RouterElements(in CoreMergeShape shape, in CoreMergeOptions options) => options.Router switch
    {
        CoreRouter.Core => Require.Elements(shape.E, shape.R),
        CoreRouter.Input => Require.Elements(shape.E, shape.DIn),
        _ => 0,
    };

    private static void Options(in CoreMergeOptions options)
    {
        Require.Flags(options.Flags);
        Require.Defined((uint)options.BLayout, (uint)BLayout.RankByOut, nameof(options), nameof(options.BLayout));
        Require.Defined((uint)options.Router, (uint)CoreRouter.Caller, nameof(options), nameof(options.Router));
        Require.NotNegative(options.Temperature, nameof(options.Temperature));
        Require.Probability(options.DropoutP, nameof(options.DropoutP));
        Require.Probability(options.DropoutCoreP, nameof(options.DropoutCoreP));
    }
}
