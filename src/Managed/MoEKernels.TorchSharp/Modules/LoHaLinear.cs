using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// LoHa beside a frozen linear layer: y = W x + b + Delta dropout(x), Delta = (alpha / r) (W1a W1b) * (W2a W2b), element by element.
/// Source: arXiv 2108.06098.
/// </summary>
/// <remarks>
/// Names in <c>state_dict</c> follow PEFT: <c>hada_w1_a</c> and <c>hada_w2_a</c> [d_out, r], <c>hada_w1_b</c> and <c>hada_w2_b</c> [r, d_in]. The
/// last starts as zeros, the others as a linear layer's weight does. Delta exists in every forward pass; it is made of TorchSharp
/// operations in both implementations.
/// </remarks>
public sealed class LoHaLinear : AdapterLinear
{
    private const string W1AName = "hada_w1_a";
    private const string W1BName = "hada_w1_b";
    private const string W2AName = "hada_w2_a";
    private const string W2BName = "hada_w2_b";

    private readonly LoHaConfig _config;

    [ComponentName(Name = W1AName)]
    private readonly Parameter _w1A;

    [ComponentName(Name = W1BName)]
    private readonly Parameter _w1B;

    [ComponentName(Name = W2AName)]
    private readonly Parameter _w2A;

    [ComponentName(Name = W2BName)]
    private readonly Parameter _w2B;

    /// <summary>Wraps a layer.</summary>
    /// <param name="baseLayer">The layer, with or without bias; it is frozen and becomes part of this module.</param>
    /// <param name="config">The configuration; null: the default one.</param>
    /// <exception cref="ArgumentException">The configuration is out of its range or does not fit the layer.</exception>
    public LoHaLinear(Linear baseLayer, LoHaConfig? config = null)
        : this(baseLayer, config ?? new LoHaConfig(), nameof(LoHaLinear))
    {
    }

    private LoHaLinear(Linear baseLayer, LoHaConfig config, string name)
        : base(name, baseLayer, config)
    {
        _config = config;
        Device device = baseLayer.weight.device;
        _w1A = NewParameter(W1AName, OutFeatures, config.Rank, device);
        _w1B = NewParameter(W1BName, config.Rank, InFeatures, device);
        _w2A = NewParameter(W2AName, OutFeatures, config.Rank, device);
        _w2B = NewParameter(W2BName, config.Rank, InFeatures, device);
        using (no_grad())
            InitParameters();
        RegisterComponents();
    }

    internal override Tensor DeltaOf(Tensor weight)
    {
        using var scope = NewDisposeScope();
        return (_w1A.matmul(_w1B) * _w2A.matmul(_w2B) * _config.Scale).MoveToOuterDisposeScope();
    }

    private protected override ScalarType ParameterTypeNow => _w1A.dtype;

    private protected override void InitParameters()
    {
        nn.init.kaiming_uniform_(_w1A, Math.Sqrt(5));
        nn.init.kaiming_uniform_(_w1B, Math.Sqrt(5));
        nn.init.kaiming_uniform_(_w2A, Math.Sqrt(5));
        nn.init.zeros_(_w2B);
    }

    private protected override Tensor AddAdapted(Tensor input, Tensor output, bool mayOverwrite)
    {
        using var scope = NewDisposeScope();
        Tensor x = _config.Dropout > 0 && training ? nn.functional.dropout(input, _config.Dropout, training: true) : input;
        Tensor delta = nn.functional.linear(x.to(_w1A.dtype), DeltaOf(BaseLayer.weight));
        return (output + delta.to(output.dtype)).MoveToOuterDisposeScope();
    }
}
