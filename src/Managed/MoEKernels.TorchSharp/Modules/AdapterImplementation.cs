namespace MoEKernels.TorchSharp;

/// <summary>What computes an adapter.</summary>
public enum AdapterImplementation
{
    /// <summary>The fused native op.</summary>
    Fused = 0,

    /// <summary>The same formula in plain TorchSharp operations, see <see cref="Reference.ReferenceOps"/>: the oracle and the baseline.</summary>
    Reference = 1,
}
