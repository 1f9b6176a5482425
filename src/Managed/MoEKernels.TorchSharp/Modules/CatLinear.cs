using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// CAT beside a frozen linear layer: y = W x + b + sum_i rho_i s_i B_i A_i dropout(x), rho = softmax(c). The factors are frozen as well, the scalars c are
/// trained. Delta = sum_i rho_i s_i B_i A_i. Source: arXiv 2410.13025.
/// </summary>
/// <remarks>
/// <c>state_dict</c> holds <c>cat_logits</c> [n], the scalars, normal at first, and the factors side by side as the buffers <c>cat_A</c> [r, d_in] and
/// <c>cat_B</c> [d_out, r], the scales s_i in the latter, r the sum of the ranks. Unlike other methods, a new one changes the layer: to a mixture of its adapters. It is made of
/// TorchSharp operations in both implementations.
/// </remarks>
public sealed class CatLinear : AdapterLinear
{
    private const string LogitsName = "cat_logits";
    private const string AName = "cat_A";
    private const string BName = "cat_B";

    private readonly CatConfig _config;

    [ComponentName(Name = LogitsName)]
    private readonly Parameter _logits;

    [ComponentName(Name = AName)]
    private readonly Tensor _a;

    [ComponentName(Name = BName)]
    private readonly Tensor _b;

    internal CatLinear(Linear baseLayer, CatConfig config)
        : base(nameof(CatLinear), baseLayer, config)
    {
        _config = config;
        Device device = baseLayer.weight.device;
        _logits = (Parameter)nn.Parameter(empty(config.Ranks.Count, dtype: ParameterType, device: device)).DetachFromDisposeScope();
        _a = zeros(config.Rank, InFeatures, dtype: ParameterType, device: device).DetachFromDisposeScope();
        _b = zeros(OutFeatures, config.Rank, dtype: ParameterType, device: device).DetachFromDisposeScope();
        register_parameter(LogitsName, _logits);
        register_buffer(AName, _a);
        register_buffer(BName, _b);
        using (no_grad())
            InitParameters();
        RegisterComponents();
    }

    /// <summary>The weights rho of the adapters that the layer has, in their order; they sum to 1.</summary>
    public double[] Weights
    {
        get
        {
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            return _logits.to(ScalarType.Float64).softmax(0).cpu().data<double>().ToArray();
        }
    }

    internal override Tensor DeltaOf(Tensor weight)
    {
        using var scope = NewDisposeScope();
        return WeightedB().matmul(_a).MoveToOuterDisposeScope();
    }

    /// <summary>A and B with the weights in it, [r, d_in] and [d_out, r]: one LoRA of scale 1.</summary>
    internal (Tensor A, Tensor B) AsOne() => (_a, WeightedB());

    /// <summary>Takes over the factors of the adapters, in the order of the configuration.</summary>
    internal void SetFactors(IReadOnlyList<PeftLayer> layers)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        long start = 0;
        foreach (PeftLayer layer in layers)
        {
            _a.narrow(0, start, layer.Rank).copy_(layer.A);
            _b.narrow(1, start, layer.Rank).copy_(layer.B.to(ScalarType.Float64) * layer.Scale);
            start += layer.Rank;
        }
    }

    private protected override ScalarType ParameterTypeNow => _logits.dtype;

    private protected override void InitParameters() => nn.init.normal_(_logits);

    private protected override Tensor AddAdapted(Tensor input, Tensor output, bool mayOverwrite)
    {
        using var scope = NewDisposeScope();
        Tensor x = _config.Dropout > 0 && training ? nn.functional.dropout(input, _config.Dropout, training: true) : input;
        // The weights go on the small tensor, so that their gradient is the sum of what the small one has.
        Tensor hidden = nn.functional.linear(x.to(_a.dtype), _a) * RankWeights();
        return (output + nn.functional.linear(hidden, _b).to(output.dtype)).MoveToOuterDisposeScope();
    }

    private Tensor WeightedB()
    {
        using var scope = NewDisposeScope();
        return (_b * RankWeights()).MoveToOuterDisposeScope();
    }

    /// <summary>The weight of every rank, [r].</summary>
    private Tensor RankWeights()
    {
        using var scope = NewDisposeScope();
        Tensor ranks = tensor(_config.Ranks.ToArray(), dtype: ScalarType.Int64, device: _logits.device);
        return _logits.softmax(0).repeat_interleave(ranks, dim: 0).MoveToOuterDisposeScope();
    }
}
