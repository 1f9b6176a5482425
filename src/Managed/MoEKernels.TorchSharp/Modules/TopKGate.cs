using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// A router with its gate: logits = W x, then the maths of <see cref="MoeFunctional.Gate"/>. [.., d_in] to the decision for every token.
/// </summary>
/// <remarks>
/// Names in <c>state_dict</c>: <c>weight</c> [E, d_in], made as a linear layer's weight is, and, where the options use a bias, the buffer
/// <c>load_bias</c> [E], zeros at first, which stays f32 (f64 beside f64 weights) whatever <c>to()</c> says.
/// </remarks>
public sealed class TopKGate : nn.Module<Tensor, GateResult>, IRoutedModule
{
    private const string WeightName = "weight";
    private const string LoadBiasName = "load_bias";

    private readonly GateOptions _options;
    private readonly LoadBalance _load;
    private readonly RoutingTotals _totals;

    [ComponentName(Name = WeightName)]
    private readonly Parameter _weight;

    [ComponentName(Name = LoadBiasName)]
    private Tensor? _loadBias;

    /// <summary>Makes a gate.</summary>
    /// <param name="inFeatures">Input width d_in, at least 1.</param>
    /// <param name="experts">Experts E, 1 to 4096.</param>
    /// <param name="k">Active experts per token, 1 to E; 0 or E with <see cref="GateSelect.All"/>.</param>
    /// <param name="options">The maths; the default is softmax, then top-k, weights as they are.</param>
    /// <param name="device">Where the weight lies; null: the CPU.</param>
    /// <param name="dtype">Element type of the weight; null: f32.</param>
    /// <exception cref="ArgumentException">An argument is out of its range.</exception>
    public TopKGate(long inFeatures, long experts, long k, GateOptions options = default, Device? device = null, ScalarType? dtype = null)
        : base(nameof(TopKGate))
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(inFeatures, 1);
        OptionChecks.InRange(experts, 1, Gate.MaxExperts, nameof(experts));
        if (options.Select == GateSelect.TopK)
            OptionChecks.InRange(k, 1, experts, nameof(k));
        ScalarType type = dtype ?? ScalarType.Float32;
        if (!TensorTypes.IsSupported(type))
            throw new ArgumentException($"dtype is {type}; expected Float32, BFloat16, Float16 or Float64.", nameof(dtype));

        InFeatures = inFeatures;
        ActiveExperts = k;
        _options = options;
        _load = new LoadBalance(experts, device);
        _totals = new RoutingTotals(experts);
        RouteCount = experts;

        Tensor weight = empty(experts, inFeatures, dtype: type, device: device);
        _weight = (Parameter)nn.Parameter(nn.init.kaiming_uniform_(weight, Math.Sqrt(5))).DetachFromDisposeScope();
        register_parameter(WeightName, _weight);
        if (options.BiasMode != BiasMode.None)
        {
            _loadBias = zeros(experts, dtype: TensorTypes.Accumulator(type), device: device).DetachFromDisposeScope();
            register_buffer(LoadBiasName, _loadBias);
        }
        RegisterComponents();
    }

    /// <summary>Input width d_in.</summary>
    public long InFeatures { get; }

    /// <summary>Active experts k per token.</summary>
    public long ActiveExperts { get; }

    /// <inheritdoc/>
    public long RouteCount { get; }

    /// <summary>What computes the gate. Default: <see cref="AdapterImplementation.Fused"/>.</summary>
    public AdapterImplementation Implementation { get; set; }

    /// <inheritdoc/>
    public bool TrackRouting { get; set; }

    /// <summary>Whether the gate has a load bias.</summary>
    public bool HasLoadBias => _loadBias is not null;

    /// <inheritdoc/>
    public override GateResult forward(Tensor input)
    {
        ArgumentNullException.ThrowIfNull(input);
        OpTensors.CheckWidth(input, InFeatures, "d_in");
        using var scope = NewDisposeScope();
        Tensor logits = nn.functional.linear(input, _weight);
        GateResult result = Implementation == AdapterImplementation.Reference
            ? Reference.ReferenceOps.Gate(logits, ActiveExperts, _options, _loadBias, withLogSumExp: true)
            : MoeFunctional.Gate(logits, ActiveExperts, _options, _loadBias, withLogSumExp: true);
        if (result.Counts is not null && HasLoadBias && training)
            _load.Add(result.Counts);
        if (TrackRouting)
            _totals.Add(result.Counts ?? result.Weights.reshape(-1, RouteCount).sum(dim: 0));
        return result.MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public double[] GetRoutingTotals() => _totals.ToArray();

    /// <inheritdoc/>
    public void ResetRoutingTotals() => _totals.Reset();

    /// <summary>How often each expert was chosen in training forward passes since the last <see cref="UpdateRouterBias"/>, [E].</summary>
    public int[] GetLoadCounts() => _load.ToArray();

    /// <summary>
    /// One step of loss-free load balancing with the counts since the last one, b += rate sign(mean(counts) - counts), and the counts start
    /// anew. Does nothing when nothing was counted. Source: arXiv 2412.19437.
    /// </summary>
    /// <param name="rate">Step, finite.</param>
    /// <exception cref="InvalidOperationException">The gate has no load bias.</exception>
    public void UpdateRouterBias(double rate = 1e-3)
    {
        if (_loadBias is null)
            throw new InvalidOperationException($"The gate has no load bias to update; expected {nameof(BiasMode)}.{BiasMode.Selection} or {BiasMode.Weight} in its options.");
        Tensor bias = _loadBias;
        _load.Take(bias, counts => MoeFunctional.UpdateGateBias(bias, counts, rate));
    }

    /// <inheritdoc/>
    protected override void _toEpilog(ScalarType? dtype, Device? device, bool non_blocking)
    {
        Tensor? before = _loadBias?.clone().DetachFromDisposeScope();
        base._toEpilog(dtype, device, non_blocking);
        if (before is null)
            return;
        _loadBias = LoadBias.Restore(before, _loadBias!, _weight.dtype);
        ConditionallyRegisterBuffer(LoadBiasName, _loadBias);
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
            _load.Dispose();
        base.Dispose(disposing);
    }
}
