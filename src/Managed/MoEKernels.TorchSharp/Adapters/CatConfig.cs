using System.Text.Json.Serialization;
using TorchSharp.Modules;

namespace MoEKernels.TorchSharp;

/// <summary>
/// CAT of LoRA Soups: finished LoRA adapters side by side, frozen, with one trainable weight for each adapter and layer.
/// y = W x + sum_i rho_i s_i B_i A_i x, rho = softmax(c) over the adapters that the layer has. Source: arXiv 2410.13025.
/// </summary>
/// <remarks>
/// Made by <see cref="AdapterExtensions.AddCat"/>, which also brings the factors. Trainable parameters of a layer: as many as it has adapters. PEFT has no such method; with the
/// weights fixed it is the combination <c>cat</c>, see <see cref="PeftMath.Concatenate"/>.
/// </remarks>
public sealed record CatConfig : AdapterConfig
{
    /// <summary>Makes a configuration without layers.</summary>
    public CatConfig()
    {
        Rank = 1;
        Alpha = 1;
    }

    /// <summary>The ranks of the adapters of each layer, in their order, by the layer's path; an adapter that lacks the layer is not there.</summary>
    [JsonPropertyName("layer_ranks")]
    public IReadOnlyDictionary<string, IReadOnlyList<long>> LayerRanks { get; init; } = new Dictionary<string, IReadOnlyList<long>>();

    /// <summary>The ranks of the adapters of this one layer.</summary>
    [JsonIgnore]
    internal IReadOnlyList<long> Ranks { get; init; } = [];

    internal override AdapterConfig ForLayer(string path) =>
        LayerRanks.TryGetValue(path, out IReadOnlyList<long>? ranks)
            ? this with { Ranks = ranks, Rank = ranks.Sum() }
            : throw new ArgumentException($"{nameof(LayerRanks)} has no '{path}', which {nameof(TargetModules)} name; it has {string.Join(", ", LayerRanks.Keys.Take(40))}.", nameof(path));

    internal override AdapterLinear CreateModule(Linear baseLayer) => new CatLinear(baseLayer, this);

    internal override void Validate()
    {
        base.Validate();
        foreach ((string path, IReadOnlyList<long> ranks) in LayerRanks)
        {
            if (ranks.Count == 0 || ranks.Any(rank => rank < 1))
                throw new ArgumentException($"{nameof(LayerRanks)} has [{string.Join(", ", ranks)}] for '{path}'; expected one or more ranks of at least 1.", nameof(LayerRanks));
        }
    }
}
