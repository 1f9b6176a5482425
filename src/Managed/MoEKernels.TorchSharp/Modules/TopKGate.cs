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
public sealed class TopKGate : nn.Module<Tensor, GateResult>, IRoutedModule, ILoadBalancedModule, IAuxiliaryLossModule, ITraceableRouter
{
    private const string WeightName = "weight";
    private const string LoadBiasName = "load_bias";

    private readonly GateOptions _options;
    private readonly LoadBalance _load;
    private readonly RoutingTotals _totals;
    private readonly PendingLoss _auxiliaryLoss = new();

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

    /// <summary>
    /// Factor of the balance loss that forward passes in training make, E sum_e f_e P_e, with f_e the share of the choices that fell on expert e and
    /// P_e the mean of softmax(logits) over the tokens: 1 at perfect balance. At least 0; needs <see cref="GateSelect.TopK"/>. Default: 0, no
    /// loss. Collected by <see cref="AdapterExtensions.AuxiliaryLoss"/>. Source: arXiv 2101.03961.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is negative or not finite, or not 0 where nothing is selected.</exception>
    public double BalanceLossFactor
    {
        get;
        set
        {
            CheckFactor(value);
            if (value > 0 && _options.Select != GateSelect.TopK)
                throw new ArgumentOutOfRangeException(nameof(value), value, $"Expected 0 with {nameof(GateSelect)}.{_options.Select}, which chooses nothing.");
            field = value;
        }
    }

    /// <summary>
    /// Factor of the z-loss that forward passes in training make, the mean square of log sum_e exp(z_e), which keeps logits small. At least 0.
    /// Default: 0, no loss. Collected by <see cref="AdapterExtensions.AuxiliaryLoss"/>. Source: arXiv 2202.08906.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is negative or not finite.</exception>
    public double ZLossFactor
    {
        get;
        set
        {
            CheckFactor(value);
            field = value;
        }
    }

    /// <inheritdoc/>
    public Tensor? TakeAuxiliaryLoss() => _auxiliaryLoss.Take();

    RouterTraceLayer? ITraceableRouter.Trace
    {
        get => Trace;
        set => Trace = value;
    }

    /// <summary>Where decisions are written down.</summary>
    private RouterTraceLayer? Trace { get; set; }

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
        Trace?.Add(result.Ids, result.Weights, RouteCount);
        if (training && (is_grad_enabled() || RecomputePass.Current is not null) && (BalanceLossFactor > 0 || ZLossFactor > 0) && input.numel() > 0)
            _auxiliaryLoss.Add(LossOf(logits, result));
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

    void ILoadBalancedModule.UpdateRouterBias() => UpdateRouterBias();

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
        {
            _load.Dispose();
            _auxiliaryLoss.Dispose();
        }
        base.Dispose(disposing);
    }

    private Tensor LossOf(Tensor logits, GateResult result)
    {
        ScalarType type = TensorTypes.Accumulator(logits.dtype);
        Tensor z = logits.to(type).reshape(-1, RouteCount);
        Tensor loss = zeros([], dtype: type, device: logits.device);
        if (BalanceLossFactor > 0)
        {
            // The shares carry no gradient.
            Tensor shares = result.Counts!.detach().to(type) / (z.size(0) * ActiveExperts);
            loss = loss + (z.softmax(-1).mean([0L]) * shares).sum() * (RouteCount * BalanceLossFactor);
        }
        if (ZLossFactor > 0)
            loss = loss + z.logsumexp(-1, keepdim: false).square().mean() * ZLossFactor;
        return loss;
    }

    private static void CheckFactor(double value)
    {
        if (!(value >= 0 && double.IsFinite(value)))
            throw new ArgumentOutOfRangeException(nameof(value), value, "Expected a finite number of at least 0.");
    }
}
