using System.Text.Json.Serialization;
using TorchSharp.Modules;

namespace MoEKernels.TorchSharp;

/// <summary>
/// LoKr: the Kronecker product of a small matrix and a larger one, which is itself low-rank unless r is large. Delta = (alpha / r) W1 (x) W2.
/// The defaults are PEFT's: r 8, alpha 8. Source: arXiv 2309.14859.
/// </summary>
/// <remarks>
/// PEFT: <c>LoKrConfig</c>, whose <c>alpha</c> is <see cref="AdapterConfig.Alpha"/>. With d_out = l k and d_in = m n, the factors chosen as below,
/// W1 is [l, m] and W2 is [k, n]. Trainable parameters of a layer: l m, or r (l + m) where W1 is decomposed, and k n, or r (k + n) where
/// W2 is.
/// </remarks>
public sealed record LoKrConfig : AdapterConfig
{
    /// <summary>Makes the default configuration.</summary>
    public LoKrConfig()
    {
        Rank = 8;
        Alpha = 8;
    }

    /// <summary>
    /// Largest small factor of d_in and d_out; -1: their factors closest to the square root. Default: -1. PEFT: <c>decompose_factor</c>.
    /// </summary>
    [JsonPropertyName("decompose_factor")]
    public long DecomposeFactor { get; init; } = -1;

    /// <summary>
    /// Whether W1 is a product of rank r as well, where r is less than half its larger side. Default: false. PEFT: <c>decompose_both</c>.
    /// </summary>
    [JsonPropertyName("decompose_both")]
    public bool DecomposeBoth { get; init; }

    [JsonIgnore]
    internal double Scale => Alpha / Rank;

    internal override AdapterLinear CreateModule(Linear baseLayer) => new LoKrLinear(baseLayer, this);

    internal override void Validate()
    {
        base.Validate();
        if (DecomposeFactor is not -1 and < 1)
            throw new ArgumentOutOfRangeException(nameof(DecomposeFactor), DecomposeFactor, "Expected -1 or at least 1.");
    }

    /// <summary>
    /// Splits a width into two factors, the smaller one first: the given one where it divides the width, else the closest to the square root whose
    /// smaller is at most the given one.
    /// </summary>
    internal static (long Small, long Large) Split(long width, long factor)
    {
        if (factor > 0 && width % factor == 0)
            return factor <= width / factor ? (factor, width / factor) : (width / factor, factor);
        long limit = factor < 0 ? width : factor;
        long small = 1;
        for (long candidate = 2; candidate <= limit && candidate <= width / candidate; candidate++)
        {
            if (width % candidate == 0)
                small = candidate;
        }
        return (small, width / small);
    }
}
