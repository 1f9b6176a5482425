namespace MoEKernels;

/// <summary>The maths of a <see cref="CoreMerge"/> call.</summary>
public readonly record struct CoreMergeOptions
{
    /// <summary>Per-call switches.</summary>
    public CallFlags Flags { get; init; }

    /// <summary>Storage of B and of its gradient.</summary>
    public BLayout BLayout { get; init; }

    /// <summary>Where the mixing weights come from.</summary>
    public CoreRouter Router { get; init; }

    /// <summary>Factor on the adapter's output, for example alpha / R; taken as it is, 0 gives 0.</summary>
    public required double Scale { get; init; }

    /// <summary>Divides the logits, greater than 0; 0 means 1.</summary>
    public double Temperature { get; init; }

    /// <summary>
    /// Probability that an element of x is dropped, 0 &lt;= p &lt; 1. See <see cref="Dropout"/> for the mask.
    /// </summary>
    public double DropoutP { get; init; }

    /// <summary>Probability that an element of v is dropped, 0 &lt;= p &lt; 1.</summary>
    public double DropoutCoreP { get; init; }

    /// <summary>Seed of both masks; the same in backward.</summary>
    public ulong DropoutSeed { get; init; }

    /// <summary>Offset of both masks; the same in backward.</summary>
    public ulong DropoutOffset { get; init; }
}
