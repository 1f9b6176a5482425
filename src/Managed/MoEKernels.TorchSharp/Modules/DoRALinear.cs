using TorchSharp;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// DoRA beside a frozen linear layer: direction and length of the weight's rows apart. y = W' x + b,
/// W' = m (W + s B A) / |W + s B A|, with the lengths of rows taken as constants in backward. Delta = W' - W. Source: arXiv 2402.09353.
/// </summary>
/// <remarks>
/// Beside the names of <see cref="FactoredLinear"/>, <c>state_dict</c> holds <c>lora_magnitude_vector</c> [d_out], the lengths of W's rows at
/// first. As in PEFT, the bias is not scaled, and with dropout the whole difference to W x is computed from the dropped x. It is made of
/// TorchSharp operations in both implementations.
/// </remarks>
public sealed class DoRALinear : FactoredLinear
{
    private const string MagnitudeName = "lora_magnitude_vector";

    private readonly LoRAConfig _config;

    [ComponentName(Name = MagnitudeName)]
    private readonly Parameter _magnitude;

    /// <summary>Wraps a layer.</summary>
    /// <param name="baseLayer">The layer, with or without bias; it is frozen and becomes part of this module.</param>
    /// <param name="config">The configuration; null: the default one. Its <see cref="LoRAConfig.UseDora"/> is not asked.</param>
    /// <exception cref="ArgumentException">The configuration is out of its range or does not fit the layer.</exception>
    public DoRALinear(Linear baseLayer, LoRAConfig? config = null)
        : this(baseLayer, config ?? new LoRAConfig(), nameof(DoRALinear))
    {
    }

    private DoRALinear(Linear baseLayer, LoRAConfig config, string name)
        : base(name, baseLayer, config)
    {
        if (config.TakesFromBase)
            throw new ArgumentException($"{nameof(config.InitialWeights)} is {config.InitialWeights}; expected {LoRAInit.Kaiming} or {LoRAInit.Gaussian} with DoRA.", nameof(config));
        _config = config;
        _magnitude = (Parameter)nn.Parameter(empty(OutFeatures, dtype: ParameterType, device: baseLayer.weight.device)).DetachFromDisposeScope();
        register_parameter(MagnitudeName, _magnitude);
        using (no_grad())
        {
            if (config.InitialWeights == LoRAInit.Gaussian)
                nn.init.normal_(LoraA, 0, 1.0 / config.Rank);
            InitMagnitude();
        }
        RegisterComponents();
    }

    internal override bool DependsOnBaseWeight => true;

    internal override Tensor DeltaOf(Tensor weight)
    {
        using var scope = NewDisposeScope();
        Tensor whole = Direction(weight);
        return (whole * Factor(whole).unsqueeze(1) - weight.to(whole.dtype)).MoveToOuterDisposeScope();
    }

    private protected override void InitParameters()
    {
        base.InitParameters();
        if (_config.InitialWeights == LoRAInit.Gaussian)
            nn.init.normal_(LoraA, 0, 1.0 / _config.Rank);
        InitMagnitude();
    }

    private protected override Tensor AddAdapted(Tensor input, Tensor output, bool mayOverwrite)
    {
        using var scope = NewDisposeScope();
        Tensor factor = RowFactor();
        Tensor x = _config.Dropout > 0 && training ? nn.functional.dropout(input, _config.Dropout, training: true) : input;
        Tensor baseProduct = nn.functional.linear(x, BaseLayer.weight).to(factor.dtype);
        Tensor product = nn.functional.linear(nn.functional.linear(x.to(LoraA.dtype), LoraA), LoraB);
        using Scalar scale = _config.Scale;
        Tensor delta = (factor - 1) * baseProduct + factor * (product * scale);
        return (output + delta.to(output.dtype)).MoveToOuterDisposeScope();
    }

    private void InitMagnitude()
    {
        using var scope = NewDisposeScope();
        _magnitude.copy_(Lengths(Direction(BaseLayer.weight)));
    }

    /// <summary>m / |W + s B A|, [d_out], with the gradient of m alone.</summary>
    private Tensor RowFactor()
    {
        using var scope = NewDisposeScope();
        Tensor lengths;
        using (no_grad())
            lengths = Lengths(Direction(BaseLayer.weight));
        return (_magnitude / lengths).MoveToOuterDisposeScope();
    }

    private Tensor Factor(Tensor whole) => _magnitude / Lengths(whole);

    private Tensor Direction(Tensor weight) => weight.to(LoraA.dtype) + LoraB.matmul(LoraA).mul_(_config.Scale);

    // A row of zeros has no direction; its length counts as the smallest number, so that it stays zeros instead of becoming NaN.
    private static Tensor Lengths(Tensor rows) => rows.square().sum(dim: 1).sqrt_().clamp_min(finfo(rows.dtype).tiny);
}
