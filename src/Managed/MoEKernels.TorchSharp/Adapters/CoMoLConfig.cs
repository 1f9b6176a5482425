using System.Text.Json.Serialization;
using TorchSharp.Modules;

namespace MoEKernels.TorchSharp;

/// <summary>
/// CoMoL: E cores of r x r are mixed per token between one pair of LoRA factors.
/// u = A dropout(x), v = sum_e p_e (u C_e), y = W x + (alpha / r) B dropout(v). The defaults are the published ones: r 16, alpha 16,
/// 8 cores, core router, dropout 0.1; the published targets are the q, k, v, o and down projections. Source: arXiv 2603.00573.
/// </summary>
/// <remarks>
/// The authors' code also drops elements of the merged core, which would force it to exist for every token. That is offered as
/// <see cref="MergedCoreDropout"/> by the plain TorchSharp implementation only.
/// </remarks>
public sealed record CoMoLConfig : AdapterConfig
{
    /// <summary>Makes the default configuration.</summary>
    public CoMoLConfig()
    {
        Rank = 16;
        Alpha = 16;
        Dropout = 0.1;
    }

    /// <summary>Number of cores E, 1 to 4096. Default: 8.</summary>
    [JsonPropertyName("num_experts")]
    public long Experts { get; init; } = 8;

    /// <summary>
    /// What the router reads: u = A x (<see cref="CoreRouter.Core"/>, the default) or x itself (<see cref="CoreRouter.Input"/>,
    /// "without core router").
    /// </summary>
    [JsonPropertyName("router")]
    [JsonConverter(typeof(JsonStringEnumConverter<CoreRouter>))]
    public CoreRouter Router { get; init; }

    /// <summary>Probability that an element of v is dropped in training, 0 &lt;= p &lt; 1. Default: 0.1.</summary>
    [JsonPropertyName("core_dropout")]
    public double CoreDropout { get; init; } = 0.1;

    /// <summary>
    /// Probability that an element of a token's merged core is dropped in training. Not 0 only with
    /// <see cref="AdapterImplementation.Reference"/>. Default: 0.
    /// </summary>
    [JsonPropertyName("merged_core_dropout")]
    public double MergedCoreDropout { get; init; }

    internal override AdapterLinear CreateModule(Linear baseLayer) => new CoMoLLinear(baseLayer, this);

    internal override void Validate()
    {
        base.Validate();
        if (Experts is < 1 or > Gate.MaxExperts)
            throw new ArgumentOutOfRangeException(nameof(Experts), Experts, $"Expected 1 to {Gate.MaxExperts}.");
        if (Router is not (CoreRouter.Core or CoreRouter.Input))
            throw new ArgumentOutOfRangeException(nameof(Router), Router, "Expected Core or Input.");
        ThrowIfNotProbability(CoreDropout, nameof(CoreDropout));
        ThrowIfNotProbability(MergedCoreDropout, nameof(MergedCoreDropout));
    }
}
