namespace MoEKernels.TorchSharp.Reference;

/// <summary>Ways to write v = sum_e p_e (u C_e) in TorchSharp operations; the same numbers but for rounding.</summary>
public enum CoreMergeForm
{
    /// <summary>w = p (x) u as [T, E r], then one product with the stacked cores [E r, r]. The fastest.</summary>
    Stacked = 0,

    /// <summary>The merged core of every token, [T, r, r], as the authors' code does; the only form with dropout on it.</summary>
    Einsum = 1,
}
