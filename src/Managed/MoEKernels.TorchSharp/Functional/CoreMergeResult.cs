using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>The output of core-space merging and its mixing weights. Disposing it disposes the tensors.</summary>
public sealed class CoreMergeResult : IDisposable
{
    internal CoreMergeResult(Tensor output, Tensor mixture)
    {
        Output = output;
        Mixture = mixture;
    }

    /// <summary>[.., d_out], of x's type; differentiable.</summary>
    public Tensor Output { get; }

    /// <summary>Mixing weights p of the cores, [T, E], f32 (f64 beside f64 x); without gradient.</summary>
    public Tensor Mixture { get; }

    /// <summary>Disposes the tensors.</summary>
    public void Dispose()
    {
        Output.Dispose();
        Mixture.Dispose();
    }

    internal CoreMergeResult MoveToOuterDisposeScope()
    {
        Output.MoveToOuterDisposeScope();
        Mixture.MoveToOuterDisposeScope();
        return this;
    }
}
