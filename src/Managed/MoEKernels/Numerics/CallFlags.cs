using System.Diagnostics.CodeAnalysis;

namespace MoEKernels;

/// <summary>Per-call switches, combined with <c>|</c>.</summary>
[Flags]
[SuppressMessage("Naming", "CA1711",
    Justification = "The C header calls them flags, and so does every op's documentation.")]
public enum CallFlags : uint
{
    /// <summary>Outputs are overwritten; a NaN score counts as negative infinity.</summary>
    None = 0,

    /// <summary>
    /// Add to the per-token output (y; in backward dx, drouter_input, dlogits) instead of overwriting it.
    /// </summary>
    AccumulateOutput = 1,

    /// <summary>Add to the weight gradients instead of overwriting them.</summary>
    AccumulateGradients = 2,

    /// <summary>Add to the counts instead of overwriting them.</summary>
    AccumulateCounts = 4,

    /// <summary>A token's result depends neither on its neighbours nor on the number of tokens.</summary>
    BatchInvariant = 8,

    /// <summary>
    /// Report a NaN score as a <see cref="MoeNumericException"/> instead of treating it as negative infinity.
    /// </summary>
    Strict = 16,

    /// <summary>Let f32 products run on TF32 tensor cores (CUDA; ignored on the CPU).</summary>
    AllowTf32 = 32,
}
