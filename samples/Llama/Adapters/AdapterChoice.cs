using MoEKernels.TorchSharp;

namespace Llama;

/// <summary>Makes the configuration of an adapter that is chosen by name and rank.</summary>
internal static class AdapterChoice
{
    /// <summary>The projections of every block, as Llama and Qwen call them; the output layer stays as it is.</summary>
    public static readonly IReadOnlyList<string> Projections = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

    /// <summary>SMoRA activates a quarter of its ranks for each token.</summary>
    private const int RanksPerActiveRank = 4;

    /// <summary>The adapter's output starts at this multiple of its two matrices.</summary>
    private const double Scale = 2;

    /// <summary>rsLoRA's scale alpha / √r shrinks slowly with the rank; this alpha gives the others' scale at the rank 8.</summary>
    private const double StabilizedAlpha = Scale * 8;

    /// <summary>A hundred times SMoRA's default, since a run of some hundred steps would not feel that one.</summary>
    private const double BiasUpdateRate = 1e-3;

    /// <summary>The configuration.</summary>
    /// <param name="kind">The method.</param>
    /// <param name="rank">The rank.</param>
    /// <param name="targets">Which layers.</param>
    public static AdapterConfig Configure(AdapterKind kind, int rank, IReadOnlyList<string> targets) =>
        AdapterKinds.Configure(kind, new AdapterSettings(rank, kind == AdapterKind.RsLora ? StabilizedAlpha / rank : Scale)
        {
            ActiveRanks = Math.Max(1, rank / RanksPerActiveRank),
            BiasUpdateRate = BiasUpdateRate,
            TargetModules = targets,
        });
}
