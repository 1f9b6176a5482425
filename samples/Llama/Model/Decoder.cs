using MoEKernels.TorchSharp;

using TorchSharp.Modules;
using TorchSharp.Utils;

using static TorchSharp.torch;

namespace Llama;

/// <summary>Embedding, blocks and the last norm: everything but the output layer.</summary>
internal sealed class Decoder : nn.Module<Tensor, KeyValueCache?, Tensor>
{
    [ComponentName(Name = "embed_tokens")]
    private readonly TokenEmbedding _embedding;

    [ComponentName(Name = "layers")]
    private readonly ModuleList<DecoderLayer> _layers;

    [ComponentName(Name = "norm")]
    private readonly RmsNorm _norm;

    private readonly Rotary _rotary;

    public Decoder(ModelConfig config, ScalarType dtype)
        : base(nameof(Decoder))
    {
        _embedding = new TokenEmbedding(config.Vocabulary, config.Width, dtype);
        _layers = nn.ModuleList(Enumerable.Range(0, config.Layers).Select(_ => new DecoderLayer(config, dtype)).ToArray());
        _norm = new RmsNorm(config.Width, config.NormEpsilon, dtype);
        _rotary = new Rotary(config);
        RegisterComponents();
    }

    /// <summary>The table of the embedding, shape <c>[vocabulary, width]</c>.</summary>
    public Parameter EmbeddingTable => _embedding.Table;

    /// <summary>Whether backward computes every block again instead of keeping what it made.</summary>
    public bool Recomputes { get; set; }

    /// <summary>Computes the last hidden states.</summary>
    /// <param name="tokens">int64 of shape <c>[batch, positions]</c>.</param>
    /// <param name="cache">Earlier positions; these are put behind them. Null: there are none.</param>
    /// <returns>Shape <c>[batch, positions, width]</c>.</returns>
    public override Tensor forward(Tensor tokens, KeyValueCache? cache)
    {
        Tensor x = _embedding.call(tokens);
        RotaryAngles angles = _rotary.At(cache?.Length ?? 0, tokens.size(1), x);
        foreach ((int index, DecoderLayer layer) in _layers.Index())
        {
            x = Recomputes && cache is null
                ? Recompute.Run(input => layer.call(input, angles, null), x)
                : layer.call(x, angles, cache?.Layers[index]);
        }

        return _norm.call(x);
    }
}
