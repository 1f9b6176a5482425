using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>The gate in autograd: logits to weights and log-sum-exp; ids and counts come out through the call object.</summary>
internal static class GateFunction
{
    public static Tensor[] Apply(GateCall call, Tensor logits) => GraphFunction.Apply(call.Plan, [logits], () =>
    {
        call.Forward(logits);
        // A copy of the bias: it may be updated before backward comes, and the gradient belongs to the value used here.
        Tensor?[] saved = [logits, call.Bias?.detach().clone(), call.Ids];
        return new GraphRecord(call.LogSumExp is null ? [call.Weights!] : [call.Weights!, call.LogSumExp], saved);
    });
}

/// <summary>What a gate call does, without tensors, so that the graph may keep it.</summary>
internal sealed record GatePlan(GateShape Shape, GateOptions Options) : GraphPlan
{
    public override string Name => "MoeFunctional.Gate";

    public long SlotsPerToken => Options.Select == GateSelect.All ? Shape.E : Shape.K;

    /// <inheritdoc/>
    public override Tensor?[] Backward(IReadOnlyList<Tensor?> saved, IReadOnlyList<Tensor?> outputGradients) =>
        [Backward(saved[0]!, saved[1], saved[2], outputGradients[0], outputGradients.Count > 1 ? outputGradients[1] : null)];

    private Tensor Backward(Tensor logits, Tensor? bias, Tensor? ids, Tensor? dWeights, Tensor? dLogSumExp)
    {
        MoeContext context = MoeContexts.For(logits);
        ScalarType accumulator = TensorTypes.Accumulator(logits.dtype);
        using Tensor? zeroWeights = dWeights is null ? zeros(Shape.T, SlotsPerToken, dtype: accumulator, device: logits.device) : null;
        using var rows = new RowMajor(logits);
        using var weightRows = new RowMajor(dWeights ?? zeroWeights);
        using Tensor? denseWeights = weightRows.Stride == 0 ? null : dWeights!.contiguous();
        using var lse = new RowMajor(dLogSumExp);
        Tensor dLogits = OpTensors.EmptyLike(logits);
        var args = new GateArgs
        {
            Shape = Shape,
            Options = Options,
            LogitsDType = OpTensors.TypeOf(logits),
            LogitsStride = rows.Stride,
            Logits = rows.Address,
            Bias = OpTensors.Address(bias),
            Ids = OpTensors.Address(ids),
            DWeights = denseWeights is null ? weightRows.Address : OpTensors.Address(denseWeights),
            DLse = lse.Address,
            DLogits = OpTensors.Address(dLogits),
        };
        long bytes = Gate.BackwardWorkspace(context, args);
        using var workspace = new CallWorkspace(bytes, logits);
        Gate.Backward(context, args, workspace.Address, bytes, MoeContexts.Stream);
        GC.KeepAlive(bias);
        GC.KeepAlive(ids);
        GC.KeepAlive(dLogits);
        return dLogits;
    }
}

/// <summary>One forward call: the plan, and the tensors that come out beside autograd's.</summary>
internal sealed class GateCall(GatePlan plan, Tensor? bias, bool withLogSumExp)
{
    public GatePlan Plan { get; } = plan;

    public Tensor? Bias { get; } = bias;

    public Tensor? Weights { get; private set; }

    public Tensor? Ids { get; private set; }

    public Tensor? Counts { get; private set; }

    public Tensor? LogSumExp { get; private set; }

    public void Forward(Tensor logits)
    {
        MoeContext context = MoeContexts.For(logits);
        ScalarType accumulator = TensorTypes.Accumulator(logits.dtype);
        bool selects = Plan.Options.Select == GateSelect.TopK;
        Weights = OpTensors.EmptyWithWidth(logits, Plan.SlotsPerToken, accumulator);
        Ids = selects ? OpTensors.EmptyWithWidth(logits, Plan.Shape.K, ScalarType.Int32) : null;
        Counts = selects ? empty(Plan.Shape.E, dtype: ScalarType.Int32, device: logits.device) : null;
        LogSumExp = withLogSumExp ? empty(logits.shape[..^1], dtype: accumulator, device: logits.device) : null;

        using var rows = new RowMajor(logits);
        using var biasRow = new RowMajor(Bias);
        var args = new GateArgs
        {
            Shape = Plan.Shape,
            Options = Plan.Options,
            LogitsDType = OpTensors.TypeOf(logits),
            LogitsStride = rows.Stride,
            Logits = rows.Address,
            Bias = biasRow.Address,
            Ids = OpTensors.Address(Ids),
            Weights = OpTensors.Address(Weights),
            Counts = OpTensors.Address(Counts),
            Lse = OpTensors.Address(LogSumExp),
        };
        long bytes = Gate.ForwardWorkspace(context, args);
        using var workspace = new CallWorkspace(bytes, logits);
        Gate.Forward(context, args, workspace.Address, bytes, MoeContexts.Stream);
        GC.KeepAlive(this);
    }
}
