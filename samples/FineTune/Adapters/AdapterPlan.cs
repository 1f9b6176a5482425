using MoEKernels.TorchSharp;

using TorchSharp.Modules;

using static TorchSharp.torch;

namespace FineTune;

/// <summary>One adapter to train.</summary>
/// <param name="Kind">Which method.</param>
/// <param name="Name">The name in tables and plots.</param>
/// <param name="FileName">The name of its files, without an ending.</param>
/// <param name="Config">What <c>AddAdapter</c> is given.</param>
internal sealed record AdapterPlan(AdapterKind Kind, string Name, string FileName, AdapterConfig Config)
{
    /// <summary>SMoRA activates a quarter of its ranks for each token.</summary>
    private const int RanksPerActiveRank = 4;

    private const int Cores = 4;

    /// <summary>A hundred times SMoRA's default, since a run of some hundred steps would not feel that one.</summary>
    private const double BiasUpdateRate = 1e-3;

    /// <summary>The adapter's output starts at this multiple of its two matrices, the scale of SMoRA's published configuration.</summary>
    private const double Scale = 2;

    /// <summary>
    /// Plans the adapters that the options ask for. SMoRA has the rank of the options; the others have the rank whose number of
    /// parameters comes closest to SMoRA's.
    /// </summary>
    /// <param name="options">The options of the run.</param>
    /// <param name="model">The model that will be adapted: every <c>Linear</c> of it.</param>
    public static IReadOnlyList<AdapterPlan> ForEqualBudget(Options options, nn.Module model)
    {
        var layers = model.modules().OfType<Linear>().Select(layer => (In: layer.in_features, Out: layer.out_features)).ToList();

        long budget = Parameters(AdapterKind.SMoRA, options.Rank);
        return [.. options.Adapters.Select(kind =>
        {
            long rank = kind == AdapterKind.SMoRA ? options.Rank : ClosestRank(kind);
            return Plan(kind, rank);
        })];

        // A and B, and SMoRA's router or CoMoL's cores and router.
        long Parameters(AdapterKind kind, long rank) => layers.Sum(layer => rank * (layer.In + layer.Out) + kind switch
        {
            AdapterKind.SMoRA => rank * layer.In,
            AdapterKind.CoMoL => Cores * ((rank * rank) + rank),
            _ => 0,
        });

        long ClosestRank(AdapterKind kind)
        {
            long rank = 1;
            while (Parameters(kind, rank + 1) <= budget)
                rank++;
            return Parameters(kind, rank + 1) - budget < budget - Parameters(kind, rank) ? rank + 1 : rank;
        }
    }

    private static AdapterPlan Plan(AdapterKind kind, long rank)
    {
        long active = Math.Max(1, rank / RanksPerActiveRank);
        return kind switch
        {
            AdapterKind.SMoRA => new AdapterPlan(kind, $"SMoRA {active} of {rank}", "smora", new SMoRAConfig
            {
                Rank = rank,
                ActiveRanks = active,
                Alpha = Scale * active,
                BiasUpdateRate = BiasUpdateRate,
            }),
            AdapterKind.CoMoL => new AdapterPlan(kind, $"CoMoL {Cores} × r {rank}", "comol", new CoMoLConfig
            {
                Rank = rank,
                Experts = Cores,
                Alpha = Scale * rank,
                Dropout = 0,
                CoreDropout = 0,
            }),
            _ => new AdapterPlan(kind, $"LoRA r {rank}", "lora", new LoRAConfig { Rank = rank, Alpha = Scale * rank }),
        };
    }
}
