using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// CoMoL beside a frozen linear layer: E cores of r x r are mixed per token between one pair of LoRA factors.
/// u = A dropout(x), p = softmax(W_g u) or softmax(W_g x), v = sum_e p_e (u C_e), y = W x + b + (alpha / r) B dropout(v).
/// Source: arXiv 2603.00573.
/// </summary>
/// <remarks>
/// Beside the names of <see cref="FactoredLinear"/>, <c>state_dict</c> holds <c>lora_C</c> [E, r, r], U(-1/sqrt(r), 1/sqrt(r)) at first, and
/// <c>lora_router.weight</c> [E, r] or [E, d_in], made as a linear layer's weight is.
/// </remarks>
public sealed class CoMoLLinear : FactoredLinear, IRoutedModule, ITraceableRouter
{
    private const string RouterName = "lora_router";
    private const string CoresName = "lora_C";

    private readonly CoMoLConfig _config;
    private readonly CoreMergeOptions _options;
    private readonly RoutingTotals _totals;

    [ComponentName(Name = RouterName)]
    private readonly Linear _router;

    [ComponentName(Name = CoresName)]
    private readonly Parameter _cores;

    /// <summary>Wraps a layer.</summary>
    /// <param name="baseLayer">The layer, with or without bias; it is frozen and becomes part of this module.</param>
    /// <param name="config">The configuration; null: the default one.</param>
    /// <exception cref="ArgumentException">The configuration is out of its range or does not fit the layer.</exception>
    public CoMoLLinear(Linear baseLayer, CoMoLConfig? config = null)
        : this(baseLayer, config ?? new CoMoLConfig(), nameof(CoMoLLinear))
    {
    }

    private CoMoLLinear(Linear baseLayer, CoMoLConfig config, string name)
        : base(name, baseLayer, config)
    {
        _config = config;
        _options = new CoreMergeOptions { Router = config.Router, Scale = config.Alpha / config.Rank };
        _totals = new RoutingTotals(config.Experts);

        Device device = baseLayer.weight.device;
        long routerWidth = config.Router == CoreRouter.Core ? config.Rank : InFeatures;
        _router = nn.Linear(routerWidth, config.Experts, hasBias: false, device, ParameterType);
        Tensor cores = empty(config.Experts, config.Rank, config.Rank, dtype: ParameterType, device: device);
        _cores = (Parameter)nn.Parameter(InitCores(cores)).DetachFromDisposeScope();
        register_module(RouterName, _router);
        register_parameter(CoresName, _cores);
        RegisterComponents();
    }

    /// <inheritdoc/>
    public long RouteCount => _config.Experts;

    /// <inheritdoc/>
    public bool TrackRouting { get; set; }

    /// <inheritdoc/>
    public double[] GetRoutingTotals() => _totals.ToArray();

    /// <inheritdoc/>
    public void ResetRoutingTotals() => _totals.Reset();

    /// <summary>Where decisions are written down.</summary>
    private RouterTraceLayer? Trace { get; set; }

    RouterTraceLayer? ITraceableRouter.Trace
    {
        get => Trace;
        set => Trace = value;
    }

    internal override string? MergeObstacle =>
        $"An adapter of the kind {nameof(CoMoLLinear)} cannot be merged: how its cores mix depends on the token, so no single matrix equals it.";

    internal override Tensor DeltaOf(Tensor weight) => throw new InvalidOperationException(MergeObstacle);

    private protected override void InitParameters()
    {
        base.InitParameters();
        InitCores(_cores);
        nn.init.kaiming_uniform_(_router.weight, Math.Sqrt(5));
    }

    private protected override Tensor AddAdapted(Tensor input, Tensor baseOutput, bool mayOverwrite)
    {
        using var scope = NewDisposeScope();
        bool isTraining = training;
        CoreMergeOptions options = isTraining
            ? _options with { DropoutP = _config.Dropout, DropoutCoreP = _config.CoreDropout }
            : _options;
        double mergedCoreDropout = isTraining ? _config.MergedCoreDropout : 0;
        if (Implementation == AdapterImplementation.Fused && _config.MergedCoreDropout > 0)
            throw new NotSupportedException($"{nameof(CoMoLConfig.MergedCoreDropout)} is {_config.MergedCoreDropout}, which only {nameof(AdapterImplementation)}.{nameof(AdapterImplementation.Reference)} offers.");

        CoreMergeResult result;
        Tensor output;
        if (Implementation == AdapterImplementation.Reference)
        {
            result = Reference.ReferenceOps.CoreMerge(
                input, LoraA, LoraB, _cores, _router.weight, options,
                form: mergedCoreDropout > 0 ? Reference.CoreMergeForm.Einsum : Reference.CoreMergeForm.Stacked,
                mergedCoreDropoutP: mergedCoreDropout);
            output = baseOutput + result.Output;
        }
        else
        {
            if (options.DropoutP > 0 || options.DropoutCoreP > 0)
                options = options with { DropoutSeed = MoeFunctional.DrawDropoutSeed() };
            var inputs = new CoreMergeInputs(input, LoraA, LoraB, _cores, _router.weight, null, null, baseOutput);
            result = MoeFunctional.RunCoreMerge(inputs, options, reuseBaseOutput: mayOverwrite);
            output = result.Output;
        }

        if (TrackRouting)
            _totals.Add(result.Mixture.sum(dim: 0));
        Trace?.Add(ids: null, result.Mixture, RouteCount);
        return output.MoveToOuterDisposeScope();
    }

    /// <summary>The authors initialise each core on its own with a = sqrt(5), so its fan-in is r, not that of the stack.</summary>
    private static Tensor InitCores(Tensor cores)
    {
        double bound = 1 / Math.Sqrt(cores.size(1));
        return nn.init.uniform_(cores, -bound, bound);
    }
}
