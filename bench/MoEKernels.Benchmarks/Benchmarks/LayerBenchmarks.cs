using BenchmarkDotNet.Attributes;
using MoEKernels.Benchmarks.Workloads;

namespace MoEKernels.Benchmarks.Benchmarks;

/// <summary>Whole adapted layers on [T, D], the frozen base layer included: what a model gains.</summary>
public class LayerBenchmarks : WorkloadBenchmarks
{
    [Params(LayerKind.SMoRA, LayerKind.CoMoL)]
    public LayerKind Kind { get; set; }

    [Params(16, 512, 2048)]
    public long T { get; set; }

    [Params(1024)]
    public long D { get; set; }

    [Params(Precision.F32, Precision.MixedBF16)]
    public Precision Types { get; set; }

    internal override WorkloadCase Case => new LayerCase(Kind, T, D, Types);
}
