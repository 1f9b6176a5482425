using System.Numerics;
using MoEKernels.TorchSharp;
using MoEKernels.TorchSharp.Reference;
using static TorchSharp.torch;

namespace MoEKernels.Benchmarks.Workloads;

/// <summary>Router logits [T, E] to weights.</summary>
internal sealed record GateCase(GateKind Kind, long T, long E, long K, Precision Precision) : WorkloadCase(Precision)
{
    public override string Op => "gate";

    public override string Shape => $"{Kind} T={T} E={E} k={K}";

    /// <summary>
    /// A gate multiplies nothing. Counted are four operations a logit (compare, subtract, exponentiate, add) forward
    /// and four backward, to have one unit in all tables.
    /// </summary>
    public override FlopCount Flops => new(4.0 * T * E, 4.0 * T * E);

    public override ByteCount Bytes
    {
        get
        {
            double logits = (double)T * E * Precision.Activation().ElementSize();
            double weights = (double)T * Kept * Precision.Accumulator().ElementSize();
            double ids = Kind == GateKind.Dense ? 0 : (double)T * K * sizeof(int);
            return new(logits + weights + ids, logits + weights + ids + logits);
        }
    }

    private long Kept => Kind == GateKind.Dense ? E : K;

    private GateOptions Options => Kind switch
    {
        GateKind.Softmax => new() { Normalize = GateNormalize.SumToOne },
        GateKind.SoftmaxRaw => default,
        GateKind.SigmoidSelectionBias => new()
        {
            Score = GateScore.Sigmoid,
            BiasMode = BiasMode.Selection,
            Normalize = GateNormalize.SumToOne,
        },
        GateKind.SigmoidWeightBias => new()
        {
            Score = GateScore.Sigmoid,
            BiasMode = BiasMode.Weight,
            Normalize = GateNormalize.SumToK,
        },
        _ => new() { Select = GateSelect.All },
    };

    protected override Workload Create()
    {
        // Each row holds distinct levels between -4 and 4 that every element type can represent: random bf16 logits
        // tie, and topk breaks ties as it pleases.
        using var scope = NewDisposeScope();
        Tensor levels = rand(T, E).argsort(-1) * (8.0 / BitOperations.RoundUpToPowerOf2((ulong)E)) - 4;
        bool biased = Options.BiasMode != BiasMode.None;

        var operands = new Operands { OutputGradient = Keep(randn(T, Kept, dtype: Precision.Accumulator())) };
        operands.AddDifferentiable("logits", Keep(levels.to(Precision.Activation())));
        if (biased)
            operands.AddConstant("bias", Keep(rand(E, dtype: Precision.Accumulator()) * 0.1));

        long k = Kind == GateKind.Dense ? 0 : K;
        Tensor Reference(Operands o) => ReferenceOps.Gate(o["logits"], k, Options, o.Find("bias")).Weights;
        Tensor Fused(Operands o) => MoeFunctional.Gate(o["logits"], k, Options, o.Find("bias")).Weights;
        return new Workload(
            operands,
            [
                new AutogradImplementation(Implementation.Torch, operands, Reference),
                new AutogradImplementation(Implementation.Fused, operands, Fused),
                new RawGate(this, operands),
            ],
            Reference);
    }

    private static Tensor Keep(Tensor tensor) => tensor.DetachFromDisposeScope();

    private sealed class RawGate : RawImplementation
    {
        private readonly GateArgs _args;
        private readonly nint _workspace;
        private readonly long _workspaceBytes;

        public RawGate(GateCase shape, Operands operands)
        {
            bool dense = shape.Kind == GateKind.Dense;
            Tensor logits = operands["logits"];
            _args = new GateArgs
            {
                Shape = new GateShape(shape.T, shape.E, dense ? 0 : shape.K),
                Options = shape.Options,
                LogitsDType = shape.Precision.DTypes().X,
                Logits = Address(logits),
                Bias = Address(operands.Find("bias")),
                Ids = dense ? 0 : Buffer(ScalarType.Int32, shape.T, shape.K),
                Weights = Output(operands.OutputGradient),
                Counts = dense ? 0 : Buffer(ScalarType.Int32, shape.E),
                DWeights = Address(operands.OutputGradient),
                DLogits = Gradient("logits", logits),
            };
            _workspaceBytes = long.Max(
                Gate.ForwardWorkspace(Session.Context, _args), Gate.BackwardWorkspace(Session.Context, _args));
            _workspace = Workspace(_workspaceBytes);
        }

        public override void Forward() => Gate.Forward(Session.Context, _args, _workspace, _workspaceBytes, stream: 0);

        public override void ForwardBackward()
        {
            Forward();
            Gate.Backward(Session.Context, _args, _workspace, _workspaceBytes, stream: 0);
        }
    }
}
