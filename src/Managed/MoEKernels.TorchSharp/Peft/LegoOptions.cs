namespace MoEKernels.TorchSharp;

/// <summary>Choices of <see cref="LoraUnits.Merge"/>.</summary>
public sealed record LegoOptions
{
    /// <summary>Seed of the clustering's start. Default: 0.</summary>
    public int Seed { get; init; }

    /// <summary>Most iterations of k-means, at least 1. Default: 100.</summary>
    public int MaxIterations { get; init; } = 100;

    /// <summary>What undoes the loss of norm by averaging. Default: none.</summary>
    public LegoParameterReweighting ParameterReweighting { get; init; }

    /// <summary>What undoes the change of the output's variance by the new rank. Default: none.</summary>
    public LegoOutputReweighting OutputReweighting { get; init; }

    internal void Validate()
    {
        if (MaxIterations < 1)
            throw new ArgumentOutOfRangeException(nameof(MaxIterations), MaxIterations, "Expected at least 1.");
        if (!Enum.IsDefined(ParameterReweighting))
            throw new ArgumentOutOfRangeException(nameof(ParameterReweighting), ParameterReweighting, $"Expected a value of {nameof(LegoParameterReweighting)}.");
        if (!Enum.IsDefined(OutputReweighting))
            throw new ArgumentOutOfRangeException(nameof(OutputReweighting), OutputReweighting, $"Expected a value of {nameof(LegoOutputReweighting)}.");
    }
}

/// <summary>How <see cref="LoraUnits.Merge"/> scales a centroid. The paper describes the purpose; these are formulas for it, not quotations.</summary>
public enum LegoParameterReweighting
{
    /// <summary>The mean of the members as it is.</summary>
    None = 0,

    /// <summary>Scaled to the mean norm of the members: c · mean ||s_i|| / ||c||.</summary>
    MeanNorm = 1,
}

/// <summary>How <see cref="LoraUnits.Merge"/> scales the update. The paper describes the purpose; these are formulas for it, not quotations.</summary>
public enum LegoOutputReweighting
{
    /// <summary>Not at all.</summary>
    None = 0,

    /// <summary>By √(r / k), r the mean rank of the adapters in the layer and k the new one.</summary>
    RootOfRankRatio = 1,
}
