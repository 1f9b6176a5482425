namespace MoEKernels;

/// <summary>Where the mixing weights p of <see cref="CoreMerge"/> come from.</summary>
public enum CoreRouter
{
    /// <summary>p = softmax(W_g u / temperature), W_g [E, R].</summary>
    Core = 0,

    /// <summary>p = softmax(W_g x / temperature), W_g [E, DIn]; x without dropout.</summary>
    Input = 1,

    /// <summary>p is an input.</summary>
    Caller = 2,
}
