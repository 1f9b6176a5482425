using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;

using MoEKernels.TorchSharp;

using static TorchSharp.torch;

namespace Llama;

/// <summary>Writes small models with random weights, laid out as Hugging Face does: for trying the program without a download, and for tests.</summary>
internal static class TinyCheckpoint
{
    /// <summary>The deviation of all weights: one over the root of the width, with which the output layer can tell tokens apart.</summary>
    private const double Deviation = 0.125;

    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>The configuration of a family's tiny model.</summary>
    /// <param name="family">The family.</param>
    public static JsonObject Config(ModelFamily family)
    {
        JsonObject config = new()
        {
            ["architectures"] = new JsonArray($"{family}ForCausalLM"),
            ["model_type"] = ModelConfigReader.NameOf(family),
            ["vocab_size"] = TinyTokenizer.Vocabulary,
            ["hidden_size"] = 64,
            ["intermediate_size"] = 128,
            ["num_hidden_layers"] = 2,
            ["num_attention_heads"] = 4,
            ["num_key_value_heads"] = 2,
            ["hidden_act"] = "silu",
            ["max_position_embeddings"] = 1024,
            ["rms_norm_eps"] = 1e-6,
            ["rope_theta"] = 10000.0,
            ["tie_word_embeddings"] = family != ModelFamily.Llama,
            ["eos_token_id"] = TinyTokenizer.FirstAdded + 1,
            ["torch_dtype"] = "float32",
        };
        if (family != ModelFamily.Qwen3)
            return config;

        // Qwen 3 says how wide a head is, and it need not be a part of the width.
        config["head_dim"] = 32;
        return config;
    }

    /// <summary>Writes a whole model folder.</summary>
    /// <param name="options">Where, and what.</param>
    /// <exception cref="UserException">The folder is not empty or cannot be written to, or the text is too little.</exception>
    public static void Write(TinyOptions options)
    {
        bool isUsed = File.Exists(options.Folder) || (Directory.Exists(options.Folder) && Directory.EnumerateFileSystemEntries(options.Folder).Any());
        if (isUsed)
            throw new UserException($"--make-tiny: '{options.Folder}' is not empty; expected a new folder, since files of a model would be replaced");
        JsonObject tokenizer = TinyTokenizer.Learn(options.Family, TextSource.Read(options.Text));
        try
        {
            WriteModel(options.Folder, Config(options.Family), options.Seed, options.Shards);
            WriteJson(options.Folder, TokenizerJson.FileName, tokenizer);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new UserException($"cannot write to '{options.Folder}': {failure.Message}", failure);
        }
    }

    /// <summary>Writes a configuration and random weights for it.</summary>
    /// <param name="folder">The folder; it is made when missing.</param>
    /// <param name="config">The configuration.</param>
    /// <param name="seed">The seed of the weights.</param>
    /// <param name="shards">Files that the weights are distributed to, about.</param>
    /// <param name="dtype">The element type of the weights.</param>
    public static void WriteModel(string folder, JsonObject config, int seed, int shards = 1, ScalarType dtype = ScalarType.Float32)
    {
        Directory.CreateDirectory(folder);
        WriteJson(folder, ModelConfigReader.FileName, config);

        using var scope = NewDisposeScope();
        using var noGradients = no_grad();
        manual_seed(seed);
        using CausalModel model = new(ModelConfigReader.Read(folder), ScalarType.Float32);
        Dictionary<string, Tensor> weights = model.state_dict();
        foreach ((string name, Tensor weight) in weights)
        {
            bool isNorm = name.EndsWith("norm.weight", StringComparison.Ordinal);
            nn.init.normal_(weight, isNorm ? 1 : 0, Deviation);
        }

        long bytes = weights.Values.Sum(weight => weight.numel()) * (dtype == ScalarType.Float32 ? sizeof(float) : sizeof(short));
        SafetensorsCheckpoint.Save(folder, weights.Select(entry => KeyValuePair.Create(entry.Key, entry.Value.to(dtype))), (bytes + shards - 1) / shards);
    }

    private static void WriteJson(string folder, string name, JsonObject json) =>
        File.WriteAllText(Path.Combine(folder, name), json.ToJsonString(Indented) + "\n");
}
