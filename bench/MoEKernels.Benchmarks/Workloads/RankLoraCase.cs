using MoEKernels.TorchSharp;
using MoEKernels.TorchSharp.Reference;
using static TorchSharp.torch;

namespace MoEKernels.Benchmarks.Workloads;

/// <summary>Rank-wise sparse LoRA on x [T, d], the adapter's output without the base layer's.</summary>
internal sealed record RankLoraCase(RankLoraKind Kind, long T, long DIn, long DOut, long R, long K, Precision Precision)
    : WorkloadCase(Precision)
{
    public override string Op => "rank_lora";

    public override string Shape => $"{Kind} T={T} d={(DIn == DOut ? $"{DIn}" : $"{DIn}->{DOut}")} r={R} k={K}";

    /// <summary>
    /// Forward: all r router rows (r ranks of A where the activations choose), then k rows of A and k columns of B.
    /// Backward: four products with k ranks (dh, dB, dA, dx) and, with a router, dW_r and its share of dx, which are k
    /// wide too; with MoRA da is r wide.
    /// </summary>
    public override FlopCount Flops
    {
        get
        {
            double input = 2.0 * T * DIn, output = 2.0 * T * DOut;
            return Kind switch
            {
                RankLoraKind.FlyLoRA => new(input * R + output * K, 2 * input * K + 2 * output * K),
                RankLoraKind.MoRA => new(input * R + output * K, 2 * input * R + 2 * output * K),
                _ => new(input * (R + K) + output * K, 4 * input * K + 2 * output * K),
            };
        }
    }

    public override FlopCount DenseFlops => HasRouter ? Flops with { Forward = Flops.Forward + 2.0 * T * DIn * (R - K) } : Flops;

    public override ByteCount Bytes => ByteCount.OfAdapter(T, DIn, DOut, R * DIn + DOut * R + (HasRouter ? R * DIn : 0), Precision);

    private bool HasRouter => Kind is RankLoraKind.SMoRA or RankLoraKind.SoftmaxRouter;

    private RankLoraOptions Options => Kind switch
    {
        RankLoraKind.SMoRA => RankLoraOptions.Smora(alpha: 16, K),
        RankLoraKind.SoftmaxRouter => new()
        {
            Gate = RankGate.Router,
            Score = GateScore.Softmax,
            Normalize = GateNormalize.SumToK,
            Scale = 16.0 / K,
        },
        RankLoraKind.FlyLoRA => new() { Gate = RankGate.ActivationAbsolute, Scale = 16.0 / R },
        _ => new() { Gate = RankGate.ActivationSoftmax, Scale = 16.0 / R },
    };

    protected override Workload Create()
    {
        using var scope = NewDisposeScope();
        ScalarType weightType = Precision.Weight();
        double spread = 1 / double.Sqrt(DIn);
        var operands = new Operands { OutputGradient = Keep(randn(T, DOut).to(Precision.Activation())) };
        operands.AddDifferentiable("x", Keep(randn(T, DIn).to(Precision.Activation())));
        operands.AddDifferentiable("A", Keep((randn(R, DIn) * spread).to(weightType)));
        operands.AddDifferentiable("B", Keep(randn(DOut, R).to(weightType)));
        if (HasRouter)
            operands.AddDifferentiable("W_r", Keep((randn(R, DIn) * spread).to(weightType)));
        if (Kind == RankLoraKind.SMoRA)
            operands.AddConstant("bias", Keep(rand(R, dtype: Precision.Accumulator()) * 0.1));

        Tensor Reference(Operands o) =>
            ReferenceOps.RankLora(o["x"], o["A"], o["B"], o.Find("W_r"), K, Options, o.Find("bias")).Output;
        Tensor Fused(Operands o) =>
            MoeFunctional.RankLora(o["x"], o["A"], o["B"], o.Find("W_r"), K, Options, o.Find("bias")).Output;
        return new Workload(
            operands,
            [
                new AutogradImplementation(Implementation.Torch, operands, Reference),
                new AutogradImplementation(Implementation.Fused, operands, Fused),
                new RawRankLora(this, operands),
            ],
            Reference);
    }

    private static Tensor Keep(Tensor tensor) => tensor.DetachFromDisposeScope();

    private sealed class RawRankLora : RawImplementation
    {
        private readonly RankLoraArgs _inference;
        private readonly RankLoraArgs _training;
        private readonly nint _workspace;
        private readonly long _workspaceBytes;

        public RawRankLora(RankLoraCase shape, Operands operands)
        {
            ScalarType accumulator = shape.Precision.Accumulator();
            Tensor? router = operands.Find("W_r");
            _inference = new RankLoraArgs
            {
                Shape = new RankLoraShape(shape.T, shape.DIn, shape.DOut, shape.R, shape.K),
                Options = shape.Options,
                DTypes = shape.Precision.DTypes(),
                X = Address(operands["x"]),
                A = Address(operands["A"]),
                B = Address(operands["B"]),
                Wr = Address(router),
                Bias = Address(operands.Find("bias")),
                Y = Output(operands.OutputGradient),
                Ids = Buffer(ScalarType.Int32, shape.T, shape.K),
                Gates = Buffer(accumulator, shape.T, shape.K),
            };
            _training = _inference with
            {
                U = Buffer(accumulator, shape.T, shape.K),
                GateLogits = shape.Kind == RankLoraKind.FlyLoRA ? 0 : Buffer(accumulator, shape.T, shape.R),
                Dy = Address(operands.OutputGradient),
                Dx = Gradient("x", operands["x"]),
                DA = Gradient("A", operands["A"]),
                DB = Gradient("B", operands["B"]),
                DWr = router is null ? 0 : Gradient("W_r", router),
            };
            _workspaceBytes = new[]
            {
                RankLora.ForwardWorkspace(Session.Context, _inference),
                RankLora.ForwardWorkspace(Session.Context, _training),
                RankLora.BackwardWorkspace(Session.Context, _training),
            }.Max();
            _workspace = Workspace(_workspaceBytes);
        }

        public override void Forward() =>
            RankLora.Forward(Session.Context, _inference, _workspace, _workspaceBytes, stream: 0);

        public override void ForwardBackward()
        {
            RankLora.Forward(Session.Context, _training, _workspace, _workspaceBytes, stream: 0);
            RankLora.Backward(Session.Context, _training, _workspace, _workspaceBytes, stream: 0);
        }
    }
}
