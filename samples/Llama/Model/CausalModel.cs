using TorchSharp.Utils;

using static TorchSharp.torch;

namespace Llama;

/// <summary>
/// A decoder-only language model of the Llama and Qwen families. Its modules have Hugging Face's names, <c>model.layers.0.self_attn.q_proj</c> and so on,
/// so that checkpoints and PEFT adapters fit without translation.
/// </summary>
internal sealed class CausalModel : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "model")]
    private readonly Decoder _decoder;

    // Null where the embedding's table is the output layer.
    [ComponentName(Name = "lm_head")]
    private readonly nn.Module<Tensor, Tensor>? _output;

    /// <summary>Makes a model whose weights are undefined until a checkpoint is read.</summary>
    /// <param name="config">What it computes.</param>
    /// <param name="dtype">The element type of all weights.</param>
    public CausalModel(ModelConfig config, ScalarType dtype)
        : base(nameof(CausalModel))
    {
        Config = config;
        _decoder = new Decoder(config, dtype);
        _output = config.TiedEmbeddings ? null : Weights.Linear(dtype, config.Width, config.Vocabulary, hasBias: false);
        RegisterComponents();
    }

    /// <summary>What the model computes.</summary>
    public ModelConfig Config { get; }

    /// <summary>Whether backward computes every block again, which takes longer and needs less memory.</summary>
    public bool Recomputes
    {
        get => _decoder.Recomputes;
        set => _decoder.Recomputes = value;
    }

    /// <summary>Scores the token that follows each position.</summary>
    /// <param name="tokens">int64 of shape <c>[batch, positions]</c>.</param>
    /// <returns>Logits of shape <c>[batch, positions, vocabulary]</c>.</returns>
    public override Tensor forward(Tensor tokens) => Score(_decoder.call(tokens, null));

    /// <summary>Scores the token that follows the last position.</summary>
    /// <param name="tokens">int64 of shape <c>[batch, positions]</c>, the positions behind those in the cache.</param>
    /// <param name="cache">Earlier positions; these are put behind them.</param>
    /// <returns>Logits of shape <c>[batch, vocabulary]</c>.</returns>
    public Tensor ScoreNext(Tensor tokens, KeyValueCache cache)
    {
        Tensor states = _decoder.call(tokens, cache);
        return Score(states.select(1, states.size(1) - 1));
    }

    /// <summary>An empty cache for this model.</summary>
    /// <param name="batch">Sequences.</param>
    /// <param name="capacity">Positions that there is room for.</param>
    public KeyValueCache NewCache(int batch, int capacity) =>
        new(Config, batch, capacity, _decoder.EmbeddingTable.dtype, _decoder.EmbeddingTable.device);

    private Tensor Score(Tensor states) =>
        _output?.call(states) ?? nn.functional.linear(states, _decoder.EmbeddingTable);
}
