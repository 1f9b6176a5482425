using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// PiSSA, MiLoRA and OLoRA: LoRA whose factors start as a part of the base weight, while the base weight keeps the rest. The part is r singular triplets, the
/// largest or the smallest, or (OLoRA) s Q_r R_r of W = Q R, the first r columns and rows. W = U S V^T, s B_0 A_0 = U_r S_r V_r^T, y = (W - s B_0 A_0) x + b + s B A dropout(x). Sources: arXiv 2404.02948, 2406.09044,
/// 2406.01775.
/// </summary>
/// <remarks>
/// <para>
/// Beside the names of <see cref="FactoredLinear"/>, <c>state_dict</c> holds the starting values as the buffers <c>lora_A_init</c> and
/// <c>lora_B_init</c>: what the base weight lacks. So a layer whose adapter is switched off or removed computes what it did without it, to the
/// rounding of the base weight's type.
/// </para>
/// <para>
/// Delta is s B A, to be added to the rest. The change of the original weight is s (B A - B_0 A_0), a plain LoRA of rank 2 r.
/// </para>
/// </remarks>
public sealed class SpectralLoRALinear : FactoredLinear
{
    internal const string InitialAName = "lora_A_init";
    internal const string InitialBName = "lora_B_init";

    private readonly LoRAConfig _config;
    private bool _isInBase;

    [ComponentName(Name = InitialAName)]
    private readonly Tensor _initialA;

    [ComponentName(Name = InitialBName)]
    private readonly Tensor _initialB;

    /// <summary>Wraps a layer and moves a part of its weight into the adapter.</summary>
    /// <param name="baseLayer">The layer, with or without bias; it is frozen and becomes part of this module.</param>
    /// <param name="config">The configuration, with <see cref="LoRAInit.Pissa"/>, <see cref="LoRAInit.Milora"/> or <see cref="LoRAInit.Olora"/>.</param>
    /// <exception cref="ArgumentException">The configuration is out of its range or does not fit the layer.</exception>
    public SpectralLoRALinear(Linear baseLayer, LoRAConfig config)
        : this(baseLayer, config, nameof(SpectralLoRALinear))
    {
        using var noGrad = no_grad();
        EnterBase();
    }

    private SpectralLoRALinear(Linear baseLayer, LoRAConfig config, string name)
        : base(name, baseLayer, config)
    {
        if (!config.TakesFromBase || config.UseDora)
            throw new ArgumentException($"{nameof(config.InitialWeights)} is {config.InitialWeights}; expected {LoRAInit.Pissa}, {LoRAInit.Milora} or {LoRAInit.Olora}, without DoRA.", nameof(config));
        long most = Math.Min(InFeatures, OutFeatures);
        if (config.Rank > most)
            throw new ArgumentOutOfRangeException(nameof(config), config.Rank, $"{nameof(config.Rank)}: a weight of [{OutFeatures}, {InFeatures}] has {most} singular values; expected a rank of at most that.");
        _config = config;
        _initialA = zeros_like(LoraA).detach().DetachFromDisposeScope();
        _initialB = zeros_like(LoraB).detach().DetachFromDisposeScope();
        register_buffer(InitialAName, _initialA);
        register_buffer(InitialBName, _initialB);
        using (no_grad())
            InitParameters();
        RegisterComponents();
    }

    /// <summary>Makes the adapter but leaves the layer's weight as it is.</summary>
    internal static SpectralLoRALinear WithoutEntering(Linear baseLayer, LoRAConfig config) => new(baseLayer, config, nameof(SpectralLoRALinear));

    internal override LoraFactors? Factors => new(LoraA, LoraB, _config.Scale);

    internal override LoraFactors? FactorsWhenOff => _isInBase ? new(_initialA, _initialB, _config.Scale) : null;

    internal override Tensor DeltaOf(Tensor weight) => LoraB.matmul(LoraA).mul_(_config.Scale);

    /// <summary>The change of the original weight, s (B A - B_0 A_0), as factors of scale 1.</summary>
    internal (Tensor A, Tensor B) AsOne()
    {
        using var scope = NewDisposeScope();
        Tensor a = cat([LoraA, _initialA], 0), b = cat([LoraB * _config.Scale, _initialB * -_config.Scale], 1);
        return (a.MoveToOuterDisposeScope(), b.MoveToOuterDisposeScope());
    }

    internal override Tensor? AddWhenOff(Tensor input, Tensor output) =>
        _isInBase ? AddProduct(input, _initialA, _initialB, _config.Scale, output, mayOverwrite: false) : null;

    internal override void EnterBase()
    {
        if (_isInBase)
            return;
        AddInitial(-_config.Scale);
        _isInBase = true;
    }

    internal override void LeaveBase()
    {
        if (!_isInBase)
            return;
        AddInitial(_config.Scale);
        _isInBase = false;
    }

    private protected override void InitParameters()
    {
        using var scope = NewDisposeScope();
        ScalarType type = TensorTypes.Accumulator(BaseLayer.weight.dtype);
        Tensor weight = BaseLayer.weight.detach().to(type);
        if (_config.InitialWeights == LoRAInit.Olora)
        {
            (Tensor q, Tensor upper) = linalg.qr(weight);
            SetStart(upper.narrow(0, 0, _config.Rank), q.narrow(1, 0, _config.Rank));
            return;
        }
        (Tensor u, Tensor s, Tensor vt) = linalg.svd(weight, fullMatrices: false);
        long start = _config.InitialWeights == LoRAInit.Pissa ? 0 : s.size(0) - _config.Rank;
        // Half of the singular value, and of the scale it is divided by, goes to each factor.
        Tensor root = s.narrow(0, start, _config.Rank).div(Math.Abs(_config.Scale)).sqrt_();
        SetStart(vt.narrow(0, start, _config.Rank) * root.unsqueeze(1) * Math.Sign(_config.Scale), u.narrow(1, start, _config.Rank) * root);
    }

    private protected override Tensor AddAdapted(Tensor input, Tensor output, bool mayOverwrite)
    {
        using var scope = NewDisposeScope();
        Tensor x = _config.Dropout > 0 && training ? nn.functional.dropout(input, _config.Dropout, training: true) : input;
        Tensor result = AddProduct(x, LoraA, LoraB, _config.Scale, output, mayOverwrite && Implementation == AdapterImplementation.Fused);
        return ReferenceEquals(result, output) ? result : result.MoveToOuterDisposeScope();
    }

    private void SetStart(Tensor a, Tensor b)
    {
        _initialA.copy_(a);
        _initialB.copy_(b);
        LoraA.copy_(_initialA);
        LoraB.copy_(_initialB);
    }

    private void AddInitial(double scale)
    {
        using var scope = NewDisposeScope();
        Parameter weight = BaseLayer.weight;
        weight.copy_(weight.to(_initialA.dtype) + _initialB.matmul(_initialA).mul_(scale));
    }
}
