using System.Text.Json.Serialization;
using TorchSharp.Modules;

namespace MoEKernels.TorchSharp;

/// <summary>
/// LoHa: the element-wise product of two low-rank matrices, whose rank may reach r^2. Delta = (alpha / r) (W1a W1b) * (W2a W2b).
/// The defaults are PEFT's: r 8, alpha 8. Source: arXiv 2108.06098.
/// </summary>
/// <remarks>PEFT: <c>LoHaConfig</c>, whose <c>alpha</c> is <see cref="AdapterConfig.Alpha"/>. Trainable parameters of a layer: 2 r (d_in + d_out).</remarks>
public sealed record LoHaConfig : AdapterConfig
{
    /// <summary>Makes the default configuration.</summary>
    public LoHaConfig()
    {
        Rank = 8;
        Alpha = 8;
    }

    [JsonIgnore]
    internal double Scale => Alpha / Rank;

    internal override AdapterLinear CreateModule(Linear baseLayer) => new LoHaLinear(baseLayer, this);
}
