using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>Adapters for a small Llama-like model: width 8, 4 key/value features, 12 features in the feed-forward network, two layers.</summary>
internal static class PeftFixtures
{
    public static readonly string[] Projections = ["self_attn.q_proj", "self_attn.v_proj"];

    public static (long In, long Out) WidthsOf(string path) => path[(path.LastIndexOf('.') + 1)..] switch
    {
        "q_proj" or "o_proj" => (8, 8),
        "k_proj" or "v_proj" => (8, 4),
        "gate_proj" or "up_proj" => (8, 12),
        "down_proj" => (12, 8),
        _ => throw new ArgumentException(path, nameof(path)),
    };

    public static IEnumerable<string> Paths(params string[] projections) =>
        Enumerable.Range(0, 2).SelectMany(layer => projections.Select(name => $"model.layers.{layer}.{name}"));

    /// <summary>A LoRA with random factors on the given paths.</summary>
    public static PeftAdapter Lora(ulong seed, PeftConfig config, IEnumerable<string>? paths = null, ScalarType type = ScalarType.Float32)
    {
        using var generator = new Generator(seed, CPU);
        var tensors = new Dictionary<string, Tensor>();
        Tensor Draw(params long[] shape) => randn(shape, dtype: ScalarType.Float64, generator: generator).to(type);
        foreach (string path in paths ?? Paths(Projections))
        {
            (long dIn, long dOut) = WidthsOf(path);
            long rank = config.RankOf(path);
            tensors.Add($"base_model.model.{path}.lora_A.weight", Draw(rank, dIn));
            tensors.Add($"base_model.model.{path}.lora_B.weight", Draw(dOut, rank));
            if (config.UseDora)
                tensors.Add($"base_model.model.{path}.lora_magnitude_vector", Draw(dOut));
            if (config.LoraBias)
                tensors.Add($"base_model.model.{path}.lora_B.bias", Draw(dOut));
        }
        return new PeftAdapter(config, tensors);
    }

    public static PeftConfig Config(long rank, double alpha) => new()
    {
        Rank = rank,
        Alpha = alpha,
        TargetModules = PeftModules.FromNames("q_proj", "v_proj"),
    };
}
