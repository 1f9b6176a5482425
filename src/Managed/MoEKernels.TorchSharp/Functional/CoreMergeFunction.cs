using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>Core-space merging in autograd. The mixing weights come out through the call object.</summary>
internal static class CoreMergeFunction
{
    public static Tensor Apply(CoreMergeCall call, CoreMergeInputs inputs) => GraphFunction.Apply(call.Plan, inputs.ToArray(), () =>
    {
        call.Forward(inputs, saveForBackward: true);
        Tensor?[] saved = [inputs.X, inputs.A, inputs.B, inputs.Cores, inputs.Router, inputs.RouterInput, call.Mixture, call.U, call.V];
        return new GraphRecord([call.Output!], saved);
    })[0];
}

/// <summary>The differentiable tensors of a core-merging call.</summary>
internal readonly record struct CoreMergeInputs(
    Tensor X, Tensor A, Tensor B, Tensor Cores, Tensor? Router, Tensor? RouterInput, Tensor? Mixture, Tensor? BaseOutput)
{
    public const int BaseOutputIndex = 7;

    public Tensor?[] ToArray() => [X, A, B, Cores, Router, RouterInput, Mixture, BaseOutput];
}

/// <summary>What a core-merging call does, without tensors, so that the graph may keep it.</summary>
internal sealed record CoreMergePlan(CoreMergeShape Shape, CoreMergeOptions Options, DTypeSet DTypes) : GraphPlan
{
    public override string Name => "MoeFunctional.CoreMerge";

    /// <inheritdoc/>
    public override bool GivesAway(int input) => input != CoreMergeInputs.BaseOutputIndex;

    /// <inheritdoc/>
    public override Tensor?[] Backward(IReadOnlyList<Tensor?> saved, IReadOnlyList<Tensor?> outputGradients)
    {
        Tensor x = saved[0]!;
        Tensor dy = outputGradients[0]!;
        MoeContext context = MoeContexts.For(x);
        ScalarType weightGradient = OpTensors.ToScalarType(DTypes.Grad);
        Tensor? dx = null, dA = null, dB = null, dCores = null, dRouter = null, dRouterInput = null, dMixture = null;
        if (Needs.AnyOf(0, 1, 2, 3, 4, 5, 6))
        {
            dx = Needs[0] ? OpTensors.EmptyLike(x) : null;
            dA = OpTensors.EmptyIf(Needs[1], Shape.R, Shape.DIn, weightGradient, x);
            dB = Options.BLayout == BLayout.OutByRank
                ? OpTensors.EmptyIf(Needs[2], Shape.DOut, Shape.R, weightGradient, x)
                : OpTensors.EmptyIf(Needs[2], Shape.R, Shape.DOut, weightGradient, x);
            dCores = Needs[3] ? empty(Shape.E, Shape.R, Shape.R, dtype: weightGradient, device: x.device) : null;
            dRouter = Needs[4] ? OpTensors.EmptyWithWidth(saved[4]!, saved[4]!.size(1), weightGradient) : null;
            dRouterInput = Needs[5] ? OpTensors.EmptyLike(saved[5]!) : null;
            dMixture = OpTensors.EmptyIf(Needs[6], Shape.T, Shape.E, TensorTypes.Accumulator(x.dtype), x);

            using var xRows = new RowMajor(x);
            using var aRows = new RowMajor(saved[1]);
            using var bRows = new RowMajor(saved[2]);
            using var cores = new RowMajor(saved[3]);
            using var routerRows = new RowMajor(saved[4]);
            using var routerInputRows = new RowMajor(saved[5]);
            using var dyRows = new RowMajor(dy);
            var args = new CoreMergeArgs
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
                C = cores.Address,
                Wg = routerRows.Address,
                WgStride = routerRows.Stride,
                RouterInput = routerInputRows.Address,
                RouterInputStride = routerInputRows.Stride,
                P = OpTensors.Address(saved[6]),
                U = OpTensors.Address(saved[7]),
                V = OpTensors.Address(saved[8]),
                Dy = dyRows.Address,
                DyStride = dyRows.Stride,
                Dx = OpTensors.Address(dx),
                DA = OpTensors.Address(dA),
                DB = OpTensors.Address(dB),
                DC = OpTensors.Address(dCores),
                DWg = OpTensors.Address(dRouter),
                DRouterInput = OpTensors.Address(dRouterInput),
                Dp = OpTensors.Address(dMixture),
            };
            long bytes = CoreMerge.BackwardWorkspace(context, args);
            using var workspace = new CallWorkspace(bytes, x);
            CoreMerge.Backward(context, args, workspace.Address, bytes, MoeContexts.Stream);
            GC.KeepAlive(saved);
        }
        // The base output enters with factor 1: its gradient is dy itself.
        return [dx, dA, dB, dCores, dRouter, dRouterInput, dMixture, Needs[CoreMergeInputs.BaseOutputIndex] ? dy : null];
    }
}

/// <summary>One forward call: the plan, and the tensors that are no part of the graph.</summary>
/// <param name="plan">What to compute.</param>
/// <param name="reuseBaseOutput">Whether the base output's memory may become the output's.</param>
internal sealed class CoreMergeCall(CoreMergePlan plan, bool reuseBaseOutput)
{
    public CoreMergePlan Plan { get; } = plan;

    public Tensor? Output { get; private set; }

    public Tensor? Mixture { get; private set; }

    public Tensor? U { get; private set; }

    public Tensor? V { get; private set; }

    public void Forward(CoreMergeInputs inputs, bool saveForBackward)
    {
        Tensor x = inputs.X;
        CoreMergeShape shape = Plan.Shape;
        MoeContext context = MoeContexts.For(x);
        ScalarType accumulator = TensorTypes.Accumulator(x.dtype);

        CallFlags flags = Plan.Options.Flags;
        Output = BaseOutputs.Begin(inputs.BaseOutput, reuseBaseOutput, x, shape.DOut, ref flags);
        Mixture = inputs.Mixture?.detach().contiguous() ?? empty(shape.T, shape.E, dtype: accumulator, device: x.device);
        U = OpTensors.EmptyIf(saveForBackward, shape.T, shape.R, accumulator, x);
        V = OpTensors.EmptyIf(saveForBackward, shape.T, shape.R, accumulator, x);

        using var xRows = new RowMajor(x);
        using var aRows = new RowMajor(inputs.A);
        using var bRows = new RowMajor(inputs.B);
        using var cores = new RowMajor(inputs.Cores);
        using var routerRows = new RowMajor(inputs.Router);
        using var routerInputRows = new RowMajor(inputs.RouterInput);
        var args = new CoreMergeArgs
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
            C = cores.Address,
            Wg = routerRows.Address,
            WgStride = routerRows.Stride,
            RouterInput = routerInputRows.Address,
            RouterInputStride = routerInputRows.Stride,
            Y = OpTensors.Address(Output),
            P = OpTensors.Address(Mixture),
            U = OpTensors.Address(U),
            V = OpTensors.Address(V),
        };
        long bytes = CoreMerge.ForwardWorkspace(context, args);
        using var workspace = new CallWorkspace(bytes, x);
        CoreMerge.Forward(context, args, workspace.Address, bytes, MoeContexts.Stream);
        GC.KeepAlive(this);
    }
}
