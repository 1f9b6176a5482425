using TorchSharp.Utils;

using static TorchSharp.torch;

namespace FineTune;

/// <summary>The position-wise half of a block: up to four times the width, GELU, and down again.</summary>
internal sealed class FeedForward : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "up")]
    private readonly nn.Module<Tensor, Tensor> _up;

    [ComponentName(Name = "down")]
    private readonly nn.Module<Tensor, Tensor> _down;

    public FeedForward(int width)
        : base(nameof(FeedForward))
    {
        _up = nn.Linear(width, 4 * width, hasBias: false);
        _down = nn.Linear(4 * width, width, hasBias: false);
        RegisterComponents();
    }

    /// <summary>Transforms each position on its own.</summary>
    /// <param name="x">Shape <c>[batch, length, width]</c>.</param>
    /// <returns>The shape of <paramref name="x"/>.</returns>
    public override Tensor forward(Tensor x) => _down.call(nn.functional.gelu(_up.call(x)));
}
