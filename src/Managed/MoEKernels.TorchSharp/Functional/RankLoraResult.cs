using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>The output of rank-wise LoRA and what its gate decided. Disposing it disposes the tensors.</summary>
public sealed class RankLoraResult : IDisposable
{
    internal RankLoraResult(Tensor output, Tensor ids, Tensor gates, Tensor counts)
    {
        Output = output;
        Ids = ids;
        Gates = gates;
        Counts = counts;
    }

    /// <summary>[.., d_out], of x's type; differentiable.</summary>
    public Tensor Output { get; }

    /// <summary>The active ranks, [T, k], best first; int32 from the op, int64 from the reference.</summary>
    public Tensor Ids { get; }

    /// <summary>Their gates, [T, k], f32 (f64 beside f64 x); without gradient.</summary>
    public Tensor Gates { get; }

    /// <summary>How often each rank was active, [r]; int32 from the op, int64 from the reference.</summary>
    public Tensor Counts { get; }

    /// <summary>Disposes the tensors.</summary>
    public void Dispose()
    {
        Output.Dispose();
        Ids.Dispose();
        Gates.Dispose();
        Counts.Dispose();
    }

    internal RankLoraResult MoveToOuterDisposeScope()
    {
        Output.MoveToOuterDisposeScope();
        Ids.MoveToOuterDisposeScope();
        Gates.MoveToOuterDisposeScope();
        Counts.MoveToOuterDisposeScope();
        return this;
    }
}
