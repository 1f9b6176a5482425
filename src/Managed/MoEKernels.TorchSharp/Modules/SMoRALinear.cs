using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// SMoRA beside a frozen linear layer: every rank of one LoRA pair is an expert, and a router picks k of r per token.
/// y = W x + b + (alpha / k) sum_j B[:, T_j] g_j (A[T_j] x~), with x~ = dropout(x), s = sigmoid(W_r x~) + load bias, T the k largest s and
/// g = k s_T / sum s_T. Source: arXiv 2501.15103.
/// </summary>
/// <remarks>
/// <para>
/// Beside the names of <see cref="FactoredLinear"/>, <c>state_dict</c> holds <c>lora_router.weight</c> [r / rank partition, d_in], made as a linear
/// layer's weight is, and the buffer <c>lora_biases</c> [r], zeros at first: the authors' names. The buffer stays f32 (f64 with f64 parameters)
/// whatever <c>to()</c> says.
/// </para>
/// <para>
/// The authors' code updates the load bias inside every training forward. Here forward only counts, and
/// <see cref="UpdateRouterBias"/>, once per optimiser step, takes the step: recomputing a forward pass or splitting a batch then changes nothing.
/// </para>
/// </remarks>
public sealed class SMoRALinear : FactoredLinear, IRoutedModule, ILoadBalancedModule, ITraceableRouter
{
    private const string RouterName = "lora_router";
    private const string LoadBiasName = "lora_biases";

    private readonly SMoRAConfig _config;
    private readonly RankLoraOptions _options;
    private readonly LoadBalance _load;
    private readonly RoutingTotals _totals;

    [ComponentName(Name = RouterName)]
    private readonly Linear _router;

    [ComponentName(Name = LoadBiasName)]
    private Tensor _loadBias;

    /// <summary>Wraps a layer.</summary>
    /// <param name="baseLayer">The layer, with or without bias; it is frozen and becomes part of this module.</param>
    /// <param name="config">The configuration; null: the default one.</param>
    /// <exception cref="ArgumentException">The configuration is out of its range or does not fit the layer.</exception>
    public SMoRALinear(Linear baseLayer, SMoRAConfig? config = null)
        : this(baseLayer, config ?? new SMoRAConfig(), nameof(SMoRALinear))
    {
    }

    private SMoRALinear(Linear baseLayer, SMoRAConfig config, string name)
        : base(name, baseLayer, config)
    {
        _config = config;
        _options = RankLoraOptions.Smora(config.Alpha, config.ActiveRanks) with { RankPartition = config.RankPartition, Eps = config.Epsilon };
        if (config.Gate == SMoRAGate.SoftmaxOverSelected)
            _options = _options with { Score = GateScore.Softmax, BiasMode = BiasMode.None };
        Device device = baseLayer.weight.device;
        _load = new LoadBalance(config.Rank, device);
        _totals = new RoutingTotals(config.Rank);
        _router = nn.Linear(InFeatures, config.Rank / config.RankPartition, hasBias: false, device, ParameterType);
        _loadBias = zeros(config.Rank, dtype: TensorTypes.Accumulator(ParameterType), device: device).DetachFromDisposeScope();
        register_module(RouterName, _router);
        register_buffer(LoadBiasName, _loadBias);
        RegisterComponents();
    }

    /// <summary>Whether the gate has a load bias, as <see cref="SMoRAGate.Sigmoid"/> has.</summary>
    public bool HasLoadBias => _options.BiasMode != BiasMode.None;

    /// <inheritdoc/>
    public long RouteCount => _config.Rank;

    /// <inheritdoc/>
    public bool TrackRouting { get; set; }

    /// <inheritdoc/>
    public double[] GetRoutingTotals() => _totals.ToArray();

    /// <inheritdoc/>
    public void ResetRoutingTotals() => _totals.Reset();

    /// <summary>How often each rank was active in training forward passes since the last <see cref="UpdateRouterBias"/>, [r].</summary>
    public int[] GetLoadCounts() => _load.ToArray();

    /// <summary>
    /// One step of load balancing with the counts since the last one, b += rate sign(mean(counts) - counts), and the counts start anew. Call it once
    /// per optimiser step. Does nothing when nothing was counted.
    /// </summary>
    /// <exception cref="InvalidOperationException">The gate has no load bias.</exception>
    public void UpdateRouterBias()
    {
        if (!HasLoadBias)
            throw new InvalidOperationException($"The gate {_config.Gate} has no load bias to update; expected {SMoRAGate.Sigmoid}.");
        _load.Take(_loadBias, counts => MoeFunctional.UpdateGateBias(_loadBias, counts, _config.BiasUpdateRate));
    }

    /// <summary>Where decisions are written down.</summary>
    private RouterTraceLayer? Trace { get; set; }

    RouterTraceLayer? ITraceableRouter.Trace
    {
        get => Trace;
        set => Trace = value;
    }

    internal override string? MergeObstacle =>
        $"An adapter of the kind {nameof(SMoRALinear)} cannot be merged: which of its ranks act depends on the token, so no single matrix equals it.";

    internal override Tensor DeltaOf(Tensor weight) => throw new InvalidOperationException(MergeObstacle);

    private protected override void InitParameters()
    {
        base.InitParameters();
        nn.init.kaiming_uniform_(_router.weight, Math.Sqrt(5));
        _loadBias.zero_();
        _load.Clear();
    }

    private protected override Tensor AddAdapted(Tensor input, Tensor baseOutput, bool mayOverwrite)
    {
        using var scope = NewDisposeScope();
        bool isTraining = training;
        RankLoraOptions options = _options with { DropoutP = isTraining ? _config.Dropout : 0 };
        Tensor? bias = HasLoadBias ? _loadBias : null;
        RankLoraResult result;
        Tensor output;
        if (Implementation == AdapterImplementation.Reference)
        {
            result = Reference.ReferenceOps.RankLora(input, LoraA, LoraB, _router.weight, _config.ActiveRanks, options, bias);
            output = baseOutput + result.Output;
        }
        else
        {
            if (options.DropoutP > 0)
                options = options with { DropoutSeed = MoeFunctional.DrawDropoutSeed() };
            var inputs = new RankLoraInputs(input, LoraA, LoraB, _router.weight, null, null, baseOutput);
            result = MoeFunctional.RunRankLora(inputs, _config.ActiveRanks, options, bias, ids: null, reuseBaseOutput: mayOverwrite);
            output = result.Output;
        }

        if (isTraining && HasLoadBias)
            _load.Add(result.Counts);
        if (TrackRouting)
            _totals.Add(result.Counts);
        Trace?.Add(result.Ids, result.Gates, RouteCount);
        return output.MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    protected override void _toEpilog(ScalarType? dtype, Device? device, bool non_blocking)
    {
        Tensor before = _loadBias.clone().DetachFromDisposeScope();
        base._toEpilog(dtype, device, non_blocking);
        _loadBias = LoadBias.Restore(before, _loadBias, LoraA.dtype);
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
