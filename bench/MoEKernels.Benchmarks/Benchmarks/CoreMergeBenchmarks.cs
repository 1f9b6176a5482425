using BenchmarkDotNet.Attributes;
using MoEKernels.Benchmarks.Workloads;

namespace MoEKernels.Benchmarks.Benchmarks;

/// <summary>
/// Core-space merging (CoMoL) on [T, D], the adapter's output without the base layer's. The baseline is the fastest
/// form in plain TorchSharp operations, one product with the stacked cores; the published code's einsum is beside it.
/// </summary>
public class CoreMergeBenchmarks : OpBenchmarks
{
    private Implementation? _einsum;

    [Params(CoreRouter.Core)]
    public CoreRouter Router { get; set; }

    [Params(16, 512, 2048)]
    public long T { get; set; }

    [Params(1024, 4096)]
    public long D { get; set; }

    [Params(16)]
    public long R { get; set; }

    [Params(8)]
    public long E { get; set; }

    [Params(Precision.F32, Precision.BF16, Precision.MixedBF16)]
    public Precision Types { get; set; }

    internal override WorkloadCase Case => new CoreMergeCase(Router, T, D, D, R, E, Types);

    [Benchmark, BenchmarkCategory(Forward)]
    public void TorchEinsumForward() => _einsum!.Forward();

    [Benchmark, BenchmarkCategory(ForwardBackward)]
    public void TorchEinsumForwardBackward() => _einsum!.ForwardBackward();

    private protected override void SetUp(Workload workload)
    {
        base.SetUp(workload);
        _einsum = workload[Implementation.TorchEinsum];
    }
}
