using MoEKernels.TorchSharp;

namespace Samples;

/// <summary>Names and configurations of <see cref="AdapterKind"/>.</summary>
internal static class AdapterKinds
{
    /// <summary>LoRA+: the learning rate of B as a multiple of that of A, the paper's choice.</summary>
    public const double LearningRateRatio = 16;

    private static readonly (string Name, AdapterKind Kind)[] Names =
    [
        ("lora", AdapterKind.Lora),
        ("rslora", AdapterKind.RsLora),
        ("lora+", AdapterKind.LoraPlus),
        ("dora", AdapterKind.Dora),
        ("pissa", AdapterKind.Pissa),
        ("milora", AdapterKind.Milora),
        ("loha", AdapterKind.LoHa),
        ("lokr", AdapterKind.LoKr),
        ("smora", AdapterKind.SMoRA),
        ("comol", AdapterKind.CoMoL),
    ];

    /// <summary>All names, for people.</summary>
    public static string List { get; } = string.Join(", ", Names.Select(entry => entry.Name));

    /// <summary>The name on the command line.</summary>
    public static string NameOf(AdapterKind kind) => Names.First(entry => entry.Kind == kind).Name;

    /// <summary>The kind with a name.</summary>
    /// <param name="name">The name, in upper or lower case.</param>
    /// <param name="option">The option it was given to.</param>
    /// <exception cref="UserException">There is none.</exception>
    public static AdapterKind Parse(string name, string option)
    {
        foreach ((string known, AdapterKind kind) in Names)
        {
            if (string.Equals(name, known, StringComparison.OrdinalIgnoreCase))
                return kind;
        }

        throw new UserException($"{option} knows {List}; got '{name}'");
    }

    /// <summary>Whether PEFT's files can hold the adapter, as far as this library writes them.</summary>
    /// <param name="config">The adapter's configuration.</param>
    public static bool HasPeftForm(AdapterConfig config) =>
        config is LoRAConfig { InitialWeights: not LoRAInit.Milora } or SMoRAConfig or CoMoLConfig;

    /// <summary>The configuration of an adapter.</summary>
    /// <param name="kind">The method.</param>
    /// <param name="settings">Its settings.</param>
    public static AdapterConfig Configure(AdapterKind kind, AdapterSettings settings)
    {
        AdapterConfig config = kind switch
        {
            AdapterKind.LoHa => new LoHaConfig(),
            AdapterKind.LoKr => new LoKrConfig { DecomposeFactor = settings.DecomposeFactor },
            AdapterKind.SMoRA => new SMoRAConfig { ActiveRanks = settings.ActiveRanks, BiasUpdateRate = settings.BiasUpdateRate },
            AdapterKind.CoMoL => new CoMoLConfig { Experts = settings.Cores, CoreDropout = settings.Dropout },
            _ => new LoRAConfig
            {
                RankStabilized = kind == AdapterKind.RsLora,
                LearningRateRatio = kind == AdapterKind.LoraPlus ? LearningRateRatio : 1,
                UseDora = kind == AdapterKind.Dora,
                InitialWeights = kind switch
                {
                    AdapterKind.Pissa => LoRAInit.Pissa,
                    AdapterKind.Milora => LoRAInit.Milora,
                    _ => LoRAInit.Kaiming,
                },
            },
        };
        return config with
        {
            Rank = settings.Rank,
            Alpha = settings.Scale * (kind == AdapterKind.SMoRA ? settings.ActiveRanks : settings.Rank),
            Dropout = settings.Dropout,
            TargetModules = settings.TargetModules,
        };
    }
}
