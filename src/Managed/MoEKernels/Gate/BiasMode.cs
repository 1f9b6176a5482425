namespace MoEKernels;

/// <summary>What a per-expert bias is added to.</summary>
public enum BiasMode
{
    /// <summary>No bias.</summary>
    None = 0,

    /// <summary>The selection score only; weights use the plain score (DeepSeek-V3, arXiv 2412.19437).</summary>
    Selection = 1,

    /// <summary>Selection and weight (SMoRA, arXiv 2501.15103).</summary>
    Weight = 2,
}
