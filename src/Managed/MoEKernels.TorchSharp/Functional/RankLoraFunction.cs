using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>Rank-wise LoRA in autograd. Ids, gates and counts come out through the call object.</summary>
internal static class RankLoraFunction
{
    public static Tensor Apply(RankLoraCall call, RankLoraInputs inputs) => GraphFunction.Apply(call.Plan, inputs.ToArray(), () =>
    {
        call.Forward(inputs, saveForBackward: true);
        // A copy of the bias: it may be updated before backward comes, and the gradient belongs to the value used here.
        Tensor? bias = call.Bias?.detach().clone();
        Tensor?[] saved = [inputs.X, inputs.A, inputs.B, inputs.Router, inputs.RouterInput, bias, call.Ids, call.Gates, call.U, call.GateLogits];
        return new GraphRecord([call.Output!], saved);
    })[0];
}

/// <summary>The differentiable tensors of a rank-wise LoRA call.</summary>
internal readonly record struct RankLoraInputs(Tensor X, Tensor A, Tensor B, Tensor? Router, Tensor? RouterInput, Tensor? Gates, Tensor? BaseOutput)
{
    public const int BaseOutputIndex = 6;

    public Tensor?[] ToArray() => [X, A, B, Router, RouterInput, Gates, BaseOutput];
}

/// <summary>What a rank-wise LoRA call does, without tensors, so that the graph may keep it.</summary>
internal sealed record RankLoraPlan(RankLoraShape Shape, RankLoraOptions Options, DTypeSet DTypes) : GraphPlan
{
    public override string Name => "MoeFunctional.RankLora";

    /// <inheritdoc/>
    public override bool GivesAway(int input) => input != RankLoraInputs.BaseOutputIndex;

    /// <inheritdoc/>
    public override Tensor?[] Backward(IReadOnlyList<Tensor?> saved, IReadOnlyList<Tensor?> outputGradients)
    {
        Tensor x = saved[0]!;
        Tensor dy = outputGradients[0]!;
        MoeContext context = MoeContexts.For(x);
        ScalarType weightGradient = OpTensors.ToScalarType(DTypes.Grad);
        Tensor? dx = null, dA = null, dB = null, dRouter = null, dRouterInput = null, dGates = null;
        if (Needs.AnyOf(0, 1, 2, 3, 4, 5))
        {
            dx = Needs[0] ? OpTensors.EmptyLike(x) : null;
            dA = OpTensors.EmptyIf(Needs[1], Shape.R, Shape.DIn, weightGradient, x);
            dB = Options.BLayout == BLayout.OutByRank
                ? OpTensors.EmptyIf(Needs[2], Shape.DOut, Shape.R, weightGradient, x)
                : OpTensors.EmptyIf(Needs[2], Shape.R, Shape.DOut, weightGradient, x);
            dRouter = Needs[3] ? OpTensors.EmptyWithWidth(saved[3]!, Shape.DIn, weightGradient) : null;
            dRouterInput = Needs[4] ? OpTensors.EmptyLike(saved[4]!) : null;
            dGates = OpTensors.EmptyIf(Needs[5], Shape.T, Shape.K, TensorTypes.Accumulator(x.dtype), x);

            using var xRows = new RowMajor(x);
            using var aRows = new RowMajor(saved[1]);
            using var bRows = new RowMajor(saved[2]);
            using var routerRows = new RowMajor(saved[3]);
            using var routerInputRows = new RowMajor(saved[4]);
            using var dyRows = new RowMajor(dy);
            var args = new RankLoraArgs
            {
                Shape = Shape,
                Options = Options,
                DTypes = DTypes,
                X = xRows.Address,
                XStride = xRows.Stride,
                A = aRows.Address,
                AStride = aRows.Stride,
                B = bRows.Address,
                BStride = bRows.Stride,
                Wr = routerRows.Address,
                WrStride = routerRows.Stride,
                RouterInput = routerInputRows.Address,
                RouterInputStride = routerInputRows.Stride,
                Bias = OpTensors.Address(saved[5]),
                Ids = OpTensors.Address(saved[6]),
                Gates = OpTensors.Address(saved[7]),
                U = OpTensors.Address(saved[8]),
                GateLogits = OpTensors.Address(saved[9]),
                Dy = dyRows.Address,
                DyStride = dyRows.Stride,
                Dx = OpTensors.Address(dx),
                DA = OpTensors.Address(dA),
                DB = OpTensors.Address(dB),
                DWr = OpTensors.Address(dRouter),
                DRouterInput = OpTensors.Address(dRouterInput),
                DGates = OpTensors.Address(dGates),
            };
            long bytes = RankLora.BackwardWorkspace(context, args);
            using var workspace = new CallWorkspace(bytes, x);
            RankLora.Backward(context, args, workspace.Address, bytes, MoeContexts.Stream);
            GC.KeepAlive(saved);
        }
        // The base output enters with factor 1: its gradient is dy itself.
        return [dx, dA, dB, dRouter, dRouterInput, dGates, Needs[RankLoraInputs.BaseOutputIndex] ? dy : null];
    }
}

/// <summary>One forward call: the plan, and the tensors that are no part of the graph.</summary>
/// <param name="plan">What to compute.</param>
/// <param name="bias">Load bias, or null.</param>
/// <param name="ids">The caller's ids, or null.</param>
/// <param name="reuseBaseOutput">Whether the base output's memory may become the output's.</param>
internal sealed class RankLoraCall(RankLoraPlan plan, Tensor? bias, Tensor? ids, bool reuseBaseOutput)
{
    public RankLoraPlan Plan { get; } = plan;

    public Tensor? Bias { get; } = bias;

    public Tensor? Ids { get; private set; } = ids;

    public Tensor? Output { get; private set; }

    public Tensor? Gates { get; private set; }

    public Tensor? Counts { get; private set; }

    public Tensor? U { get; private set; }

    public Tensor? GateLogits { get; private set; }

    public void Forward(RankLoraInputs inputs, bool saveForBackward)
    {
        Tensor x = inputs.X;
        RankLoraShape shape = Plan.Shape;
        RankGate gate = Plan.Options.Gate;
        MoeContext context = MoeContexts.For(x);
        ScalarType accumulator = TensorTypes.Accumulator(x.dtype);

        CallFlags flags = Plan.Options.Flags;
        Output = BaseOutputs.Begin(inputs.BaseOutput, reuseBaseOutput, x, shape.DOut, ref flags);
        Ids = Ids?.contiguous() ?? empty(shape.T, shape.K, dtype: ScalarType.Int32, device: x.device);
        Gates = inputs.Gates?.detach().contiguous() ?? empty(shape.T, shape.K, dtype: accumulator, device: x.device);
        Counts = empty(shape.R, dtype: ScalarType.Int32, device: x.device);
        if (saveForBackward)
        {
            U = empty(shape.T, shape.K, dtype: accumulator, device: x.device);
            GateLogits = gate switch
            {
                RankGate.Router => empty(shape.T, inputs.Router!.size(0), dtype: accumulator, device: x.device),
                RankGate.ActivationSoftmax => empty(shape.T, shape.R, dtype: accumulator, device: x.device),
                _ => null,
            };
        }

        using var xRows = new RowMajor(x);
        using var aRows = new RowMajor(inputs.A);
        using var bRows = new RowMajor(inputs.B);
        using var routerRows = new RowMajor(inputs.Router);
        using var routerInputRows = new RowMajor(inputs.RouterInput);
        using var biasRow = new RowMajor(Bias);
        var args = new RankLoraArgs
        {
            Shape = shape,
            Options = Plan.Options with { Flags = flags },
            DTypes = Plan.DTypes,
            X = xRows.Address,
            XStride = xRows.Stride,
            A = aRows.Address,
            AStride = aRows.Stride,
            B = bRows.Address,
            BStride = bRows.Stride,
            Wr = routerRows.Address,
            WrStride = routerRows.Stride,
            RouterInput = routerInputRows.Address,
            RouterInputStride = routerInputRows.Stride,
            Bias = biasRow.Address,
            Y = OpTensors.Address(Output),
            Ids = OpTensors.Address(Ids),
            Gates = OpTensors.Address(Gates),
            U = OpTensors.Address(U),
            GateLogits = OpTensors.Address(GateLogits),
            Counts = OpTensors.Address(Counts),
        };
        long bytes = RankLora.ForwardWorkspace(context, args);
        using var workspace = new CallWorkspace(bytes, x);
        RankLora.Forward(context, args, workspace.Address, bytes, MoeContexts.Stream);
        GC.KeepAlive(this);
    }
}
