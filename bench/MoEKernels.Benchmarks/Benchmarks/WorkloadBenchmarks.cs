using BenchmarkDotNet.Attributes;
using BenchmarkDotNet.Configs;
using MoEKernels.Benchmarks.Workloads;

namespace MoEKernels.Benchmarks.Benchmarks;

/// <summary>What all benchmarks share: the fused op against its twin in both passes.</summary>
[MemoryDiagnoser]
[CategoriesColumn]
[GroupBenchmarksBy(BenchmarkLogicalGroupRule.ByCategory, BenchmarkLogicalGroupRule.ByParams)]
public abstract class WorkloadBenchmarks
{
    /// <summary>Inference: forward without a graph.</summary>
    public const string Forward = nameof(Pass.Forward);

    /// <summary>A training step's share: forward with a graph, then backward.</summary>
    public const string ForwardBackward = nameof(Pass.ForwardBackward);

    private Workload? _workload;
    private Implementation? _torch;
    private Implementation? _fused;

    /// <summary>The case that the parameters describe.</summary>
    internal abstract WorkloadCase Case { get; }

    [GlobalSetup]
    public void SetUp()
    {
        _workload = Case.Build();
        _torch = _workload[Implementation.Torch];
        _fused = _workload[Implementation.Fused];
        SetUp(_workload);
    }

    [GlobalCleanup]
    public void CleanUp() => _workload?.Dispose();

    [Benchmark(Baseline = true), BenchmarkCategory(Forward)]
    public void TorchForward() => _torch!.Forward();

    [Benchmark, BenchmarkCategory(Forward)]
    public void FusedForward() => _fused!.Forward();

    [Benchmark(Baseline = true), BenchmarkCategory(ForwardBackward)]
    public void TorchForwardBackward() => _torch!.ForwardBackward();

    [Benchmark, BenchmarkCategory(ForwardBackward)]
    public void FusedForwardBackward() => _fused!.ForwardBackward();

    private protected virtual void SetUp(Workload workload)
    {
    }
}
