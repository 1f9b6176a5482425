using TorchSharp.Utils;

using static TorchSharp.torch;

namespace Llama;

/// <summary>The position-wise half of a block, SwiGLU: <c>down(silu(gate(x)) * up(x))</c>.</summary>
internal sealed class FeedForward : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "gate_proj")]
    private readonly nn.Module<Tensor, Tensor> _gate;

    [ComponentName(Name = "up_proj")]
    private readonly nn.Module<Tensor, Tensor> _up;

    [ComponentName(Name = "down_proj")]
    private readonly nn.Module<Tensor, Tensor> _down;

    public FeedForward(ModelConfig config, ScalarType dtype)
        : base(nameof(FeedForward))
    {
        _gate = Weights.Linear(dtype, config.Width, config.FeedForwardWidth, config.FeedForwardBias);
        _up = Weights.Linear(dtype, config.Width, config.FeedForwardWidth, config.FeedForwardBias);
        _down = Weights.Linear(dtype, config.FeedForwardWidth, config.Width, config.FeedForwardBias);
        RegisterComponents();
    }

    /// <summary>Transforms each position on its own.</summary>
    /// <param name="x">Shape <c>[batch, positions, width]</c>.</param>
    /// <returns>The shape of <paramref name="x"/>.</returns>
    public override Tensor forward(Tensor x) => _down.call(nn.functional.silu(_gate.call(x)) * _up.call(x));
}
