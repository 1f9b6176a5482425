using TorchSharp.Utils;

using static TorchSharp.torch;

namespace Llama;

/// <summary>A pre-norm block: attention, then feed-forward, each added to the residual stream.</summary>
internal sealed class DecoderLayer : nn.Module<Tensor, RotaryAngles, LayerCache?, Tensor>
{
    [ComponentName(Name = "self_attn")]
    private readonly Attention _attention;

    [ComponentName(Name = "mlp")]
    private readonly FeedForward _feedForward;

    [ComponentName(Name = "input_layernorm")]
    private readonly RmsNorm _attentionNorm;

    [ComponentName(Name = "post_attention_layernorm")]
    private readonly RmsNorm _feedForwardNorm;

    public DecoderLayer(ModelConfig config, ScalarType dtype)
        : base(nameof(DecoderLayer))
    {
        _attention = new Attention(config, dtype);
        _feedForward = new FeedForward(config, dtype);
        _attentionNorm = new RmsNorm(config.Width, config.NormEpsilon, dtype);
        _feedForwardNorm = new RmsNorm(config.Width, config.NormEpsilon, dtype);
        RegisterComponents();
    }

    /// <inheritdoc cref="Attention.forward"/>
    public override Tensor forward(Tensor x, RotaryAngles angles, LayerCache? cache)
    {
        x = x + _attention.call(_attentionNorm.call(x), angles, cache);
        return x + _feedForward.call(_feedForwardNorm.call(x));
    }
}
