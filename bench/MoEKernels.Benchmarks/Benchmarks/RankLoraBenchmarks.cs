using BenchmarkDotNet.Attributes;
using MoEKernels.Benchmarks.Workloads;

namespace MoEKernels.Benchmarks.Benchmarks;

/// <summary>Rank-wise LoRA (SMoRA) on [T, D], the adapter's output without the base layer's.</summary>
public class RankLoraBenchmarks : OpBenchmarks
{
    [Params(RankLoraKind.SMoRA)]
    public RankLoraKind Kind { get; set; }

    [Params(16, 512, 2048)]
    public long T { get; set; }

    [Params(1024, 4096)]
    public long D { get; set; }

    [Params(64)]
    public long R { get; set; }

    [Params(8)]
    public long K { get; set; }

    [Params(Precision.F32, Precision.BF16, Precision.MixedBF16)]
    public Precision Types { get; set; }

    internal override WorkloadCase Case => new RankLoraCase(Kind, T, D, D, R, K, Types);
}
