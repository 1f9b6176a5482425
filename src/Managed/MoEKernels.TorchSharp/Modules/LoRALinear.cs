using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// Plain LoRA beside a frozen linear layer: y = W x + b + s B A dropout(x), s = alpha / r or, rank-stabilised, alpha / sqrt(r).
/// Delta = s B A. Sources: arXiv 2106.09685, 2312.03732.
/// </summary>
/// <remarks>
/// It is made of TorchSharp operations in both implementations: <see cref="AdapterImplementation.Fused"/> adds the scaled product to
/// the base output in place, which autograd allows since no operation saved it. See <see cref="AdapterLinear"/> for names,
/// initial values and types.
/// </remarks>
public sealed class LoRALinear : FactoredLinear
{
    private readonly LoRAConfig _config;

    /// <summary>Wraps a layer.</summary>
    /// <param name="baseLayer">The layer, with or without bias; it is frozen and becomes part of this module.</param>
    /// <param name="config">The configuration; null: the default one.</param>
    /// <exception cref="ArgumentException">The configuration is out of its range, does not fit the layer, or asks for DoRA, PiSSA, MiLoRA or OLoRA.</exception>
    public LoRALinear(Linear baseLayer, LoRAConfig? config = null)
        : this(baseLayer, config ?? new LoRAConfig(), nameof(LoRALinear))
    {
    }

    private LoRALinear(Linear baseLayer, LoRAConfig config, string name)
        : base(name, baseLayer, config)
    {
        if (config.UseDora || config.TakesFromBase)
            throw new ArgumentException($"The configuration asks for {(config.UseDora ? nameof(DoRALinear) : nameof(SpectralLoRALinear))}, which is a class of its own.", nameof(config));
        _config = config;
        if (config.InitialWeights == LoRAInit.Gaussian)
        {
            using var noGrad = no_grad();
            InitParameters();
        }
        RegisterComponents();
    }

    internal override LoraFactors? Factors => new(LoraA, LoraB, _config.Scale);

    internal override Tensor DeltaOf(Tensor weight) => LoraB.matmul(LoraA).mul_(_config.Scale);

    private protected override void InitParameters()
    {
        base.InitParameters();
        if (_config.InitialWeights == LoRAInit.Gaussian)
            nn.init.normal_(LoraA, 0, 1.0 / _config.Rank);
    }

    private protected override Tensor AddAdapted(Tensor input, Tensor output, bool mayOverwrite)
    {
        using var scope = NewDisposeScope();
        Tensor x = _config.Dropout > 0 && training ? nn.functional.dropout(input, _config.Dropout, training: true) : input;
        if (Implementation == AdapterImplementation.Reference)
            return (output + Reference.ReferenceOps.Lora(x, LoraA, LoraB, _config.Scale)).MoveToOuterDisposeScope();
        Tensor result = AddProduct(x, LoraA, LoraB, _config.Scale, output, mayOverwrite);
        return ReferenceEquals(result, output) ? result : result.MoveToOuterDisposeScope();
    }
}
