using System.Text.Json.Serialization;
using TorchSharp.Modules;

namespace MoEKernels.TorchSharp;

/// <summary>
/// Plain LoRA: y = W x + s B A dropout(x), s = alpha / r. The defaults are PEFT's: r 8, alpha 8, no dropout.
/// Source: arXiv 2106.09685.
/// </summary>
public sealed record LoRAConfig : AdapterConfig
{
    /// <summary>Makes the default configuration.</summary>
    public LoRAConfig()
    {
        Rank = 8;
        Alpha = 8;
    }

    /// <summary>Scale by alpha / sqrt(r) instead of alpha / r (arXiv 2312.03732). Default: false.</summary>
    [JsonPropertyName("use_rslora")]
    public bool RankStabilized { get; init; }

    internal double Scale => RankStabilized ? Alpha / Math.Sqrt(Rank) : Alpha / Rank;

    internal override AdapterLinear CreateModule(Linear baseLayer) => new LoRALinear(baseLayer, this);
}
