namespace MoEKernels;

/// <summary>Target of a load-bias update.</summary>
public enum BiasTarget
{
    /// <summary>The mean of the counts (SMoRA, DeepSeek-V3).</summary>
    Mean = 0,

    /// <summary>The value given with the call.</summary>
    Value = 1,
}
