using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// LoKr beside a frozen linear layer: y = W x + b + Delta dropout(x), Delta = (alpha / r) W1 (x) W2, the Kronecker product. Source: arXiv 2309.14859.
/// </summary>
/// <remarks>
/// <para>
/// Names in <c>state_dict</c> follow PEFT: <c>lokr_w1</c> [l, m] or <c>lokr_w1_a</c> [l, r] and <c>lokr_w1_b</c> [r, m]; <c>lokr_w2</c> [k, n] or
/// <c>lokr_w2_a</c> [k, r] and <c>lokr_w2_b</c> [r, n]; d_out = l k, d_in = m n. W1, or its first factor, starts as zeros, the others as a linear
/// layer's weight does.
/// </para>
/// <para>
/// Forward never forms Delta: with x as a matrix X [m, n], Delta x is W1 X W2^T [l, k]. It is made of TorchSharp operations in both implementations.
/// </para>
/// </remarks>
public sealed class LoKrLinear : AdapterLinear
{
    private const string W1Name = "lokr_w1";
    private const string W2Name = "lokr_w2";

    private readonly LoKrConfig _config;
    private readonly long _m;
    private readonly long _n;

    // Either the whole matrix or its two factors.
    [ComponentName(Name = W1Name)]
    private readonly Parameter? _w1;

    [ComponentName(Name = W1Name + "_a")]
    private readonly Parameter? _w1A;

    [ComponentName(Name = W1Name + "_b")]
    private readonly Parameter? _w1B;

    [ComponentName(Name = W2Name)]
    private readonly Parameter? _w2;

    [ComponentName(Name = W2Name + "_a")]
    private readonly Parameter? _w2A;

    [ComponentName(Name = W2Name + "_b")]
    private readonly Parameter? _w2B;

    /// <summary>Wraps a layer.</summary>
    /// <param name="baseLayer">The layer, with or without bias; it is frozen and becomes part of this module.</param>
    /// <param name="config">The configuration; null: the default one.</param>
    /// <exception cref="ArgumentException">The configuration is out of its range or does not fit the layer.</exception>
    public LoKrLinear(Linear baseLayer, LoKrConfig? config = null)
        : this(baseLayer, config ?? new LoKrConfig(), nameof(LoKrLinear))
    {
    }

    private LoKrLinear(Linear baseLayer, LoKrConfig config, string name)
        : base(name, baseLayer, config)
    {
        _config = config;
        Device device = baseLayer.weight.device;
        (_m, _n) = LoKrConfig.Split(InFeatures, config.DecomposeFactor);
        (long l, long k) = LoKrConfig.Split(OutFeatures, config.DecomposeFactor);
        if (config.DecomposeBoth && 2 * config.Rank < Math.Max(l, _m))
        {
            _w1A = NewParameter(W1Name + "_a", l, config.Rank, device);
            _w1B = NewParameter(W1Name + "_b", config.Rank, _m, device);
        }
        else
        {
            _w1 = NewParameter(W1Name, l, _m, device);
        }
        if (2 * config.Rank < Math.Max(k, _n))
        {
            _w2A = NewParameter(W2Name + "_a", k, config.Rank, device);
            _w2B = NewParameter(W2Name + "_b", config.Rank, _n, device);
        }
        else
        {
            _w2 = NewParameter(W2Name, k, _n, device);
        }
        using (no_grad())
            InitParameters();
        RegisterComponents();
    }

    internal override Tensor DeltaOf(Tensor weight)
    {
        using var scope = NewDisposeScope();
        Tensor w1 = _w1 ?? _w1A!.matmul(_w1B!);
        Tensor w2 = _w2 ?? _w2A!.matmul(_w2B!);
        return (kron(w1, w2) * _config.Scale).MoveToOuterDisposeScope();
    }

    private protected override ScalarType ParameterTypeNow => (_w2 ?? _w2A!).dtype;

    private protected override void InitParameters()
    {
        if (_w1 is not null)
        {
            nn.init.zeros_(_w1);
        }
        else
        {
            nn.init.zeros_(_w1A!);
            nn.init.kaiming_uniform_(_w1B!, Math.Sqrt(5));
        }
        if (_w2 is not null)
        {
            nn.init.kaiming_uniform_(_w2, Math.Sqrt(5));
        }
        else
        {
            nn.init.kaiming_uniform_(_w2A!, Math.Sqrt(5));
            nn.init.kaiming_uniform_(_w2B!, Math.Sqrt(5));
        }
    }

    private protected override Tensor AddAdapted(Tensor input, Tensor output, bool mayOverwrite)
    {
        using var scope = NewDisposeScope();
        Tensor x = _config.Dropout > 0 && training ? nn.functional.dropout(input, _config.Dropout, training: true) : input;
        Tensor matrices = x.to(ParameterTypeNow).reshape(-1, _m, _n);
        // Each factor in turn, [T, m, k] then [T, l, k].
        Tensor right = _w2 is not null
            ? nn.functional.linear(matrices, _w2)
            : nn.functional.linear(nn.functional.linear(matrices, _w2B!), _w2A!);
        Tensor delta = _w1 is not null ? _w1.matmul(right) : _w1A!.matmul(_w1B!.matmul(right));
        return (output + (delta * _config.Scale).reshape(output.shape).to(output.dtype)).MoveToOuterDisposeScope();
    }
}
