namespace MoEKernels;

/// <summary>Storage of the up-projection B and of its gradient.</summary>
public enum BLayout
{
    /// <summary>[DOut, R], as in a linear layer.</summary>
    OutByRank = 0,

    /// <summary>[R, DOut]: rank-major.</summary>
    RankByOut = 1,
}
