using static TorchSharp.torch;

namespace MoEKernels.Benchmarks.Workloads;

/// <summary>What to run, without tensors: an op, its dimensions and its element types.</summary>
internal abstract record WorkloadCase(Precision Precision)
{
    /// <summary>The op's name.</summary>
    public abstract string Op { get; }

    /// <summary>Variant and dimensions, for tables.</summary>
    public abstract string Shape { get; }

    public abstract FlopCount Flops { get; }

    /// <summary>The same, where forward multiplies x by all of A instead of by the ranks in use.</summary>
    public virtual FlopCount DenseFlops => Flops;

    public abstract ByteCount Bytes { get; }

    /// <summary>Makes the operands, the same ones for the same seed, and everything that runs on them.</summary>
    public Workload Build(int seed = 1)
    {
        manual_seed(seed);
        return Create();
    }

    protected abstract Workload Create();
}
