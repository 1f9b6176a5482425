using MoEKernels.TorchSharp;

using TorchSharp.Modules;

using static TorchSharp.torch;

namespace FineTune;

/// <summary>One adapter to train.</summary>
/// <param name="Kind">Which method.</param>
/// <param name="Name">The name in tables and plots.</param>
/// <param name="Config">What <c>AddAdapter</c> is given.</param>
internal sealed record AdapterPlan(AdapterKind Kind, string Name, AdapterConfig Config)
{
    /// <summary>SMoRA activates a quarter of its ranks for each token.</summary>
    private const int RanksPerActiveRank = 4;

    private const int Cores = 4;

    /// <summary>LoKr's first matrix has this many rows and columns, so that the second is large enough for the others' number of parameters.</summary>
    private const int KroneckerFactor = 2;

    /// <summary>A hundred times SMoRA's default, since a run of some hundred steps would not feel that one.</summary>
    private const double BiasUpdateRate = 1e-3;

    /// <summary>The adapter's output starts at this multiple of its two matrices, the scale of SMoRA's published configuration.</summary>
    private const double Scale = 2;

    /// <summary>rsLoRA's alpha does not grow with the rank, since its scale alpha / √r shrinks slowly: it is the others' at PEFT's default rank.</summary>
    private const double StabilizedAlpha = Scale * 8;

    /// <summary>The name of the adapter's files, without an ending.</summary>
    public string FileName => AdapterKinds.NameOf(Kind).Replace("+", "-plus", StringComparison.Ordinal);

    /// <summary>
    /// The learning rate for <see cref="AdapterHandle.ParameterGroups"/>. LoRA+ spreads A and B around the others' rate instead of raising B alone, which a
    /// rate that suits plain LoRA leaves no room for.
    /// </summary>
    /// <param name="ofOthers">The learning rate of the other methods.</param>
    public double LearningRate(double ofOthers) =>
        Kind == AdapterKind.LoraPlus ? ofOthers / Math.Sqrt(AdapterKinds.LearningRateRatio) : ofOthers;

    /// <summary>
    /// Plans the adapters that the options ask for. SMoRA has the rank of the options; the others have the rank whose number of
    /// parameters comes closest to SMoRA's; LoKr may end below it.
    /// </summary>
    /// <param name="options">The options of the run.</param>
    /// <param name="model">The model that will be adapted: every <c>Linear</c> of it.</param>
    public static IReadOnlyList<AdapterPlan> ForEqualBudget(Options options, nn.Module model)
    {
        var layers = model.modules().OfType<Linear>().Select(layer => (In: layer.in_features, Out: layer.out_features)).ToList();

        // A larger rank adds nothing, and the singular triplets of PiSSA and MiLoRA end there.
        long largest = layers.Min(layer => Math.Min(layer.In, layer.Out));
        long budget = Parameters(AdapterKind.SMoRA, options.Rank);
        return [.. options.Adapters.Select(kind => Plan(kind, kind == AdapterKind.SMoRA ? options.Rank : ClosestRank(kind)))];

        long Parameters(AdapterKind kind, long rank) => layers.Sum(layer => ParametersOf(kind, rank, layer.In, layer.Out));

        long ClosestRank(AdapterKind kind)
        {
            long rank = 1;
            while (rank < largest && Parameters(kind, rank + 1) <= budget)
                rank++;

            // LoKr's matrices stop growing where they are no products any more.
            while (rank > 1 && Parameters(kind, rank - 1) == Parameters(kind, rank))
                rank--;
            return rank < largest && Parameters(kind, rank + 1) - budget < budget - Parameters(kind, rank) ? rank + 1 : rank;
        }
    }

    private static long ParametersOf(AdapterKind kind, long rank, long dIn, long dOut)
    {
        long pair = rank * (dIn + dOut);
        return kind switch
        {
            AdapterKind.SMoRA => pair + (rank * dIn),
            AdapterKind.CoMoL => pair + (Cores * ((rank * rank) + rank)),
            AdapterKind.Dora => pair + dOut,
            AdapterKind.LoHa => 2 * pair,
            AdapterKind.LoKr => OfLoKr(),
            _ => pair,
        };

        // Which of its matrices are products depends on the rank and on how the widths can be split; the module knows.
        long OfLoKr()
        {
            using LoKrLinear module = new(nn.Linear(dIn, dOut, hasBias: false), (LoKrConfig)Plan(kind, rank).Config);
            return module.parameters().Where(parameter => parameter.requires_grad).Sum(parameter => parameter.numel());
        }
    }

    private static AdapterPlan Plan(AdapterKind kind, long rank)
    {
        AdapterSettings settings = new(rank, kind == AdapterKind.RsLora ? StabilizedAlpha / rank : Scale)
        {
            ActiveRanks = Math.Max(1, rank / RanksPerActiveRank),
            BiasUpdateRate = BiasUpdateRate,
            Cores = Cores,
            DecomposeFactor = KroneckerFactor,
        };
        string name = kind switch
        {
            AdapterKind.SMoRA => $"SMoRA {settings.ActiveRanks} of {rank}",
            AdapterKind.CoMoL => $"CoMoL {Cores} × r {rank}",
            _ => $"{TitleOf(kind)} r {rank}",
        };
        return new AdapterPlan(kind, name, AdapterKinds.Configure(kind, settings));
    }

    private static string TitleOf(AdapterKind kind) => kind switch
    {
        AdapterKind.Lora => "LoRA",
        AdapterKind.RsLora => "rsLoRA",
        AdapterKind.LoraPlus => "LoRA+",
        AdapterKind.Dora => "DoRA",
        AdapterKind.Pissa => "PiSSA",
        AdapterKind.Milora => "MiLoRA",
        _ => kind.ToString(),
    };
}
