using MoEKernels.TorchSharp;

namespace Samples;

/// <summary>What the methods have in common; each takes what it has a use for.</summary>
/// <param name="Rank">The rank r.</param>
/// <param name="Scale">What the product of the two factors is multiplied by; rsLoRA multiplies by √r more.</param>
internal sealed record AdapterSettings(long Rank, double Scale)
{
    /// <summary>Probability that an element of the adapter's input is dropped in training.</summary>
    public double Dropout { get; init; }

    /// <summary>SMoRA: ranks that a token uses.</summary>
    public long ActiveRanks { get; init; } = 1;

    /// <summary>SMoRA: step of the load biases.</summary>
    public double BiasUpdateRate { get; init; } = new SMoRAConfig().BiasUpdateRate;

    /// <summary>CoMoL: cores.</summary>
    public long Cores { get; init; } = 4;

    /// <summary>LoKr: largest small factor of the widths; -1: near their square roots.</summary>
    public long DecomposeFactor { get; init; } = -1;

    /// <summary>Which layers, as in <see cref="AdapterConfig.TargetModules"/>.</summary>
    public IReadOnlyList<string> TargetModules { get; init; } = [AdapterConfig.AllLinear];
}
