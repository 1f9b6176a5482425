using TorchSharp.Modules;
using TorchSharp.Utils;

using static TorchSharp.torch;

namespace FineTune;

/// <summary>A pre-norm transformer block.</summary>
internal sealed class Block : nn.Module<Tensor, Tensor, Tensor, Tensor>
{
    [ComponentName(Name = "attention_norm")]
    private readonly LayerNorm _attentionNorm;

    [ComponentName(Name = "attention")]
    private readonly Attention _attention;

    [ComponentName(Name = "feed_forward_norm")]
    private readonly LayerNorm _feedForwardNorm;

    [ComponentName(Name = "feed_forward")]
    private readonly FeedForward _feedForward;

    public Block(int width, int heads)
        : base(nameof(Block))
    {
        _attentionNorm = nn.LayerNorm(width);
        _attention = new Attention(width, heads);
        _feedForwardNorm = nn.LayerNorm(width);
        _feedForward = new FeedForward(width);
        RegisterComponents();
    }

    /// <inheritdoc cref="Attention.forward"/>
    public override Tensor forward(Tensor x, Tensor cos, Tensor sin)
    {
        x = x + _attention.call(_attentionNorm.call(x), cos, sin);
        return x + _feedForward.call(_feedForwardNorm.call(x));
    }
}
