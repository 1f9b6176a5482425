using BenchmarkDotNet.Attributes;
using MoEKernels.Benchmarks.Workloads;

namespace MoEKernels.Benchmarks.Benchmarks;

/// <summary>What the benchmarks of single ops share: the kernels alone, on raw addresses.</summary>
public abstract class OpBenchmarks : WorkloadBenchmarks
{
    private Implementation? _raw;

    [Benchmark, BenchmarkCategory(Forward)]
    public void RawForward() => _raw!.Forward();

    [Benchmark, BenchmarkCategory(ForwardBackward)]
    public void RawForwardBackward() => _raw!.ForwardBackward();

    private protected override void SetUp(Workload workload) => _raw = workload[Implementation.Raw];
}
