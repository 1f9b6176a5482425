namespace MoEKernels;

/// <summary>
/// The maths of a <see cref="Gate"/> call. The default value is softmax over all experts, then top-k, weights as they
/// are.
/// </summary>
public readonly record struct GateOptions
{
    /// <summary>Per-call switches.</summary>
    public CallFlags Flags { get; init; }

    /// <summary>How logits become scores.</summary>
    public GateScore Score { get; init; }

    /// <summary>Which experts a token keeps.</summary>
    public GateSelect Select { get; init; }

    /// <summary>What the bias is added to.</summary>
    public BiasMode BiasMode { get; init; }

    /// <summary>How selected scores become weights.</summary>
    public GateNormalize Normalize { get; init; }

    /// <summary>Added to the normalising sum, at least 0. A sum (with eps) of exactly 0 gives zero weights.</summary>
    public double Eps { get; init; }

    /// <summary>Divides the logits, greater than 0; 0 means 1.</summary>
    public double Temperature { get; init; }

    /// <summary>Factor on the weights; 0 means 1.</summary>
    public double WeightScale { get; init; }
}
