using System.Text.Json.Serialization;
using TorchSharp.Modules;

namespace MoEKernels.TorchSharp;

/// <summary>
/// SMoRA: every rank of one LoRA pair is an expert, and a router picks k of them per token.
/// y = W x + (alpha / k) sum_j B[:, j] g_j (A[j] x). The defaults are those of the published training configuration: r 64, k 8,
/// alpha 16, no dropout, bias rate 1e-5, on every linear layer. Source: arXiv 2501.15103.
/// </summary>
public sealed record SMoRAConfig : AdapterConfig
{
    /// <summary>Makes the default configuration.</summary>
    public SMoRAConfig()
    {
        Rank = 64;
        Alpha = 16;
    }

    /// <summary>Active ranks k per token, 1 to r. The adapter's scale is alpha / k. Default: 8.</summary>
    [JsonPropertyName("activate_r")]
    public long ActiveRanks { get; init; } = 8;

    /// <summary>Neighbouring ranks that share one router row; divides r. Default: 1.</summary>
    [JsonPropertyName("rank_partition")]
    public long RankPartition { get; init; } = 1;

    /// <summary>Step of the load bias per <see cref="SMoRALinear.UpdateRouterBias"/>, finite. Default: 1e-5.</summary>
    [JsonPropertyName("bias_update_rate")]
    public double BiasUpdateRate { get; init; } = 1e-5;

    /// <summary>How router logits become gates. Default: <see cref="SMoRAGate.Sigmoid"/>, the published form.</summary>
    [JsonPropertyName("gate")]
    [JsonConverter(typeof(JsonStringEnumConverter<SMoRAGate>))]
    public SMoRAGate Gate { get; init; }

    /// <summary>
    /// Added to the sum that the gates are divided by, at least 0. A negative load bias can bring that sum to 0, where 0, the default and
    /// the published form, gives gates of 0.
    /// </summary>
    [JsonPropertyName("gate_eps")]
    public double Epsilon { get; init; }

    internal override AdapterLinear CreateModule(Linear baseLayer) => new SMoRALinear(baseLayer, this);

    internal override void Validate()
    {
        base.Validate();
        if (ActiveRanks < 1 || ActiveRanks > Rank)
            throw new ArgumentOutOfRangeException(nameof(ActiveRanks), ActiveRanks, $"Expected 1 to {nameof(Rank)} ({Rank}).");
        if (RankPartition < 1 || Rank % RankPartition != 0)
            throw new ArgumentOutOfRangeException(nameof(RankPartition), RankPartition, $"Expected a divisor of {nameof(Rank)} ({Rank}).");
        if (!double.IsFinite(BiasUpdateRate))
            throw new ArgumentOutOfRangeException(nameof(BiasUpdateRate), BiasUpdateRate, "Expected a finite number.");
        if (!Enum.IsDefined(Gate))
            throw new ArgumentOutOfRangeException(nameof(Gate), Gate, $"Expected a value of {nameof(SMoRAGate)}.");
        if (!(Epsilon >= 0 && double.IsFinite(Epsilon)))
            throw new ArgumentOutOfRangeException(nameof(Epsilon), Epsilon, "Expected a finite number of at least 0.");
    }
}
