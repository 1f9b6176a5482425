using MoEKernels.TorchSharp;
using MoEKernels.TorchSharp.Reference;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MoEKernels.Benchmarks.Workloads;

/// <summary>A whole adapted layer on x [T, d]: the frozen W [d, d] and its adapter, as a model runs it.</summary>
internal sealed record LayerCase(LayerKind Kind, long T, long D, Precision Precision) : WorkloadCase(Precision)
{
    private const long CoMoLRank = 16;
    private const long Cores = 8;
    private const long SMoRARank = 64;
    private const long ActiveRanks = 8;
    private const double Alpha = 16;

    public override string Op => "layer";

    public override string Shape => $"{Kind} T={T} d={D}";

    /// <summary>
    /// Those of the adapter, and T d^2 multiply-adds each for y and dx of the base layer, whose weight is frozen.
    /// </summary>
    public override FlopCount Flops
    {
        get
        {
            double baseLayer = 2.0 * T * D * D;
            return new(Adapter.Flops.Forward + baseLayer, Adapter.Flops.Backward + baseLayer);
        }
    }

    public override FlopCount DenseFlops =>
        Flops with { Forward = Flops.Forward + Adapter.DenseFlops.Forward - Adapter.Flops.Forward };

    public override ByteCount Bytes
    {
        get
        {
            double weight = (double)D * D * Precision.Activation().ElementSize();
            return new(Adapter.Bytes.Forward + weight, Adapter.Bytes.Backward + weight);
        }
    }

    private WorkloadCase Adapter => Kind == LayerKind.SMoRA
        ? new RankLoraCase(RankLoraKind.SMoRA, T, D, D, SMoRARank, ActiveRanks, Precision)
        : new CoreMergeCase(CoreRouter.Core, T, D, D, CoMoLRank, Cores, Precision);

    protected override Workload Create()
    {
        Linear baseLayer = nn.Linear(D, D, dtype: Precision.Activation());
        AdapterLinear layer = Kind == LayerKind.SMoRA
            ? new SMoRALinear(baseLayer, new SMoRAConfig
            {
                Rank = SMoRARank,
                ActiveRanks = ActiveRanks,
                Alpha = Alpha,
                ParameterType = Precision.Weight(),
            })
            : new CoMoLLinear(baseLayer, new CoMoLConfig
            {
                Rank = CoMoLRank,
                Experts = Cores,
                Alpha = Alpha,
                Dropout = 0,
                CoreDropout = 0,
                ParameterType = Precision.Weight(),
            });

        using var scope = NewDisposeScope();
        var operands = new Operands { OutputGradient = Keep(randn(T, D).to(Precision.Activation())) };
        operands.AddDifferentiable("x", Keep(randn(T, D).to(Precision.Activation())));
        operands.AddConstant("weight", baseLayer.weight);
        operands.AddConstant("bias", baseLayer.bias!);
        foreach ((string name, Parameter parameter) in layer.AdapterParameters())
            operands.AddDifferentiable(name, parameter);
        // B starts as zeros, which would let nothing but its own gradient through.
        using (no_grad())
            operands["lora_B.weight"].normal_();

        Func<Operands, Tensor> Through(AdapterImplementation implementation) => o =>
        {
            layer.Implementation = implementation;
            return layer.forward(o["x"]);
        };
        return new Workload(
            operands,
            [
                new AutogradImplementation(Implementation.Torch, operands, Through(AdapterImplementation.Reference)),
                new AutogradImplementation(Implementation.Fused, operands, Through(AdapterImplementation.Fused)),
            ],
            Kind == LayerKind.SMoRA ? SMoRA : CoMoL,
            layer);
    }

    private static Tensor SMoRA(Operands o)
    {
        using Tensor loadBias = zeros(SMoRARank, dtype: ScalarType.Float64);
        return Base(o) + ReferenceOps.RankLora(
            o["x"], o["lora_A.weight"], o["lora_B.weight"], o["lora_router.weight"], ActiveRanks,
            RankLoraOptions.Smora(Alpha, ActiveRanks), loadBias).Output;
    }

    private static Tensor CoMoL(Operands o) => Base(o) + ReferenceOps.CoreMerge(
        o["x"], o["lora_A.weight"], o["lora_B.weight"], o["lora_C"], o["lora_router.weight"],
        new CoreMergeOptions { Scale = Alpha / CoMoLRank }).Output;

    private static Tensor Base(Operands o) => nn.functional.linear(o["x"], o["weight"], o["bias"]);

    private static Tensor Keep(Tensor tensor) => tensor.DetachFromDisposeScope();
}
