using BenchmarkDotNet.Attributes;
using MoEKernels.Benchmarks.Workloads;

namespace MoEKernels.Benchmarks.Benchmarks;

/// <summary>Router logits to weights, forward, and backward to the logits.</summary>
public class GateBenchmarks : OpBenchmarks
{
    [Params(GateKind.Softmax, GateKind.SigmoidSelectionBias)]
    public GateKind Kind { get; set; }

    [Params(16, 2048)]
    public long T { get; set; }

    [Params(8, 256)]
    public long E { get; set; }

    [Params(2, 8)]
    public long K { get; set; }

    [Params(Precision.F32)]
    public Precision Types { get; set; }

    internal override WorkloadCase Case => new GateCase(Kind, T, E, K, Types);
}
