namespace MoEKernels;

/// <summary>How the selected scores s become weights w.</summary>
public enum GateNormalize
{
    /// <summary>w = s.</summary>
    None = 0,

    /// <summary>w = s / (sum + eps).</summary>
    SumToOne = 1,

    /// <summary>w = K s / (sum + eps).</summary>
    SumToK = 2,
}
