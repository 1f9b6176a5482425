using MoEKernels.Interop;

namespace MoEKernels;

/// <summary>Checks of the dimensions and options of <see cref="Gate"/>, before anything is pinned.</summary>
internal static class GateChecks
{
    internal static void Check(in GateShape shape, in GateOptions options)
    {
        Options(options);
        Require.Dimension(shape.T, 0, long.MaxValue, nameof(shape), nameof(shape.T));
        Require.Dimension(shape.E, 1, Gate.MaxExperts, nameof(shape), nameof(shape.E));
        if (options.Select == GateSelect.TopK)
        {
            Require.Dimension(shape.K, 1, shape.E, nameof(shape), nameof(shape.K));
        }
        else
        {
            Require.Option(shape.K == 0 || shape.K == shape.E, shape.K,
                $"0 or E with {nameof(GateSelect)}.{nameof(GateSelect.All)}", nameof(shape), nameof(shape.K));
        }
    }

    /// <summary>Values per row of the weights.</summary>
    internal static long Kept(in GateShape shape, in GateOptions options) =>
        options.Select == GateSelect.All ? shape.E : shape.K;

    private static void Options(in GateOptions options)
    {
        Require.Flags(options.Flags);
        Require.Defined((uint)options.Score, (uint)GateScore.Identity, nameof(options), nameof(options.Score));
        Require.Defined((uint)options.Select, (uint)GateSelect.All, nameof(options), nameof(options.Select));
        Require.Defined((uint)options.BiasMode, (uint)BiasMode.Weight, nameof(options), nameof(options.BiasMode));
        Require.Defined((uint)options.Normalize, (uint)GateNormalize.SumToK, nameof(options),
            nameof(options.Normalize));
        Require.NotNegative(options.Eps, nameof(options.Eps));
        Require.NotNegative(options.Temperature, nameof(options.Temperature));
        Require.Option(double.IsFinite(options.WeightScale), options.WeightScale, "a finite number", nameof(options),
            nameof(options.WeightScale));
    }
}
