using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// Plain LoRA beside a frozen linear layer: y = W x + b + s B A dropout(x), s = alpha / r or alpha / sqrt(r). Source: arXiv 2106.09685.
/// </summary>
/// <remarks>
/// It is made of TorchSharp operations in both implementations: <see cref="AdapterImplementation.Fused"/> adds the scaled product to
/// the base output in place, which autograd allows since no operation saved it. See <see cref="AdapterLinear"/> for names,
/// initial values and types.
/// </remarks>
public sealed class LoRALinear : AdapterLinear
{
    private readonly double _scale;
    private readonly double _dropout;

    /// <summary>Wraps a layer.</summary>
    /// <param name="baseLayer">The layer, with or without bias; it is frozen and becomes part of this module.</param>
    /// <param name="config">The configuration; null: the default one.</param>
    /// <exception cref="ArgumentException">The configuration is out of its range or does not fit the layer.</exception>
    public LoRALinear(Linear baseLayer, LoRAConfig? config = null)
        : this(baseLayer, config ?? new LoRAConfig(), nameof(LoRALinear))
    {
    }

    private LoRALinear(Linear baseLayer, LoRAConfig config, string name)
        : base(name, baseLayer, config)
    {
        _scale = config.Scale;
        _dropout = config.Dropout;
        RegisterComponents();
    }

    private protected override Tensor ForwardAdapted(Tensor input)
    {
        using var scope = NewDisposeScope();
        Tensor x = _dropout > 0 && training ? nn.functional.dropout(input, _dropout, training: true) : input;
        if (Implementation == AdapterImplementation.Reference)
            return (BaseOutput(input) + Reference.ReferenceOps.Lora(x, LoraA, LoraB, _scale)).MoveToOuterDisposeScope();

        Tensor y = BaseOutput(input);
        Tensor down = nn.functional.linear(x.to(LoraA.dtype), LoraA);
        Tensor delta = nn.functional.linear(down, LoraB).to(y.dtype);
        using Scalar scale = _scale;
        return y.add_(delta, alpha: scale).MoveToOuterDisposeScope();
    }
}
