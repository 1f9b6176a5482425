using MoEKernels.TorchSharp;
using MoEKernels.TorchSharp.Reference;
using static TorchSharp.torch;

namespace MoEKernels.Benchmarks.Workloads;

/// <summary>Core-space merging (CoMoL) on x [T, d], the adapter's output without the base layer's.</summary>
internal sealed record CoreMergeCase(
    CoreRouter Router, long T, long DIn, long DOut, long R, long E, Precision Precision)
    : WorkloadCase(Precision)
{
    public override string Op => "core_merge";

    public override string Shape
    {
        get
        {
            string router = Router == CoreRouter.Core ? "" : $"/{Router}";
            return $"CoMoL{router} T={T} d={(DIn == DOut ? $"{DIn}" : $"{DIn}->{DOut}")} r={R} E={E}";
        }
    }

    /// <summary>
    /// Forward: A x, the router's logits, u C_e for every core, B v. Backward: the two gradients of each of these
    /// products, where those to p and u share C_e dv.
    /// </summary>
    public override FlopCount Flops
    {
        get
        {
            double input = 2.0 * T * DIn * R, output = 2.0 * T * DOut * R, cores = 2.0 * T * E * R * R;
            double router = 2.0 * T * E * (Router == CoreRouter.Core ? R : DIn);
            return new(input + router + cores + output, 2 * (input + router + cores + output));
        }
    }

    public override ByteCount Bytes =>
        ByteCount.OfAdapter(T, DIn, DOut, R * DIn + DOut * R + E * R * R + E * (Router == CoreRouter.Core ? R : DIn), Precision);

    private CoreMergeOptions Options => new() { Router = Router, Scale = 1 };

    protected override Workload Create()
    {
        using var scope = NewDisposeScope();
        ScalarType weightType = Precision.Weight();
        var operands = new Operands { OutputGradient = Keep(randn(T, DOut).to(Precision.Activation())) };
        operands.AddDifferentiable("x", Keep(randn(T, DIn).to(Precision.Activation())));
        operands.AddDifferentiable("A", Keep((randn(R, DIn) / double.Sqrt(DIn)).to(weightType)));
        operands.AddDifferentiable("B", Keep(randn(DOut, R).to(weightType)));
        operands.AddDifferentiable("C", Keep((randn(E, R, R) / double.Sqrt(R)).to(weightType)));
        long routerWidth = Router == CoreRouter.Core ? R : DIn;
        operands.AddDifferentiable("W_g", Keep((randn(E, routerWidth) / double.Sqrt(routerWidth)).to(weightType)));

        Tensor Reference(Operands o, CoreMergeForm form) =>
            ReferenceOps.CoreMerge(o["x"], o["A"], o["B"], o["C"], o["W_g"], Options, form: form).Output;
        Tensor Stacked(Operands o) => Reference(o, CoreMergeForm.Stacked);
        Tensor Einsum(Operands o) => Reference(o, CoreMergeForm.Einsum);
        Tensor Fused(Operands o) => MoeFunctional.CoreMerge(o["x"], o["A"], o["B"], o["C"], o["W_g"], Options).Output;
        return new Workload(
            operands,
            [
                new AutogradImplementation(Implementation.Torch, operands, Stacked),
                new AutogradImplementation(Implementation.TorchEinsum, operands, Einsum),
                new AutogradImplementation(Implementation.Fused, operands, Fused),
                new RawCoreMerge(this, operands),
            ],
            Stacked);
    }

    private static Tensor Keep(Tensor tensor) => tensor.DetachFromDisposeScope();

    private sealed class RawCoreMerge : RawImplementation
    {
        private readonly CoreMergeArgs _inference;
        private readonly CoreMergeArgs _training;
        private readonly nint _workspace;
        private readonly long _workspaceBytes;

        public RawCoreMerge(CoreMergeCase shape, Operands operands)
        {
            ScalarType accumulator = shape.Precision.Accumulator();
            _inference = new CoreMergeArgs
            {
                Shape = new CoreMergeShape(shape.T, shape.DIn, shape.DOut, shape.R, shape.E),
                Options = shape.Options,
                DTypes = shape.Precision.DTypes(),
                X = Address(operands["x"]),
                A = Address(operands["A"]),
                B = Address(operands["B"]),
                C = Address(operands["C"]),
                Wg = Address(operands["W_g"]),
                Y = Output(operands.OutputGradient),
            };
            _training = _inference with
            {
                U = Buffer(accumulator, shape.T, shape.R),
                P = Buffer(accumulator, shape.T, shape.E),
                V = Buffer(accumulator, shape.T, shape.R),
                Dy = Address(operands.OutputGradient),
                Dx = Gradient("x", operands["x"]),
                DA = Gradient("A", operands["A"]),
                DB = Gradient("B", operands["B"]),
                DC = Gradient("C", operands["C"]),
                DWg = Gradient("W_g", operands["W_g"]),
            };
            _workspaceBytes = new[]
            {
                CoreMerge.ForwardWorkspace(Session.Context, _inference),
                CoreMerge.ForwardWorkspace(Session.Context, _training),
                CoreMerge.BackwardWorkspace(Session.Context, _training),
            }.Max();
            _workspace = Workspace(_workspaceBytes);
        }

        public override void Forward() =>
            CoreMerge.Forward(Session.Context, _inference, _workspace, _workspaceBytes, stream: 0);

        public override void ForwardBackward()
        {
            CoreMerge.Forward(Session.Context, _training, _workspace, _workspaceBytes, stream: 0);
            CoreMerge.Backward(Session.Context, _training, _workspace, _workspaceBytes, stream: 0);
        }
    }
}
