namespace MoEKernels;

/// <summary>The maths of a <see cref="RankLora"/> call.</summary>
public readonly record struct RankLoraOptions
{
    /// <summary>Per-call switches.</summary>
    public CallFlags Flags { get; init; }

    /// <summary>Storage of B and of its gradient.</summary>
    public BLayout BLayout { get; init; }

    /// <summary>Where the gates come from.</summary>
    public RankGate Gate { get; init; }

    /// <summary>How router logits become scores; <see cref="RankGate.Router"/> only.</summary>
    public GateScore Score { get; init; }

    /// <summary>
    /// What the bias is added to; the signed and absolute activation gates know <see cref="BiasMode.None"/> and
    /// <see cref="BiasMode.Selection"/>.
    /// </summary>
    public BiasMode BiasMode { get; init; }

    /// <summary>
    /// How selected scores become gates; <see cref="RankGate.Router"/> and <see cref="RankGate.ActivationSoftmax"/>.
    /// </summary>
    public GateNormalize Normalize { get; init; }

    /// <summary>Ranks per router row, divides R; 0 means 1. <see cref="RankGate.Router"/> only.</summary>
    public long RankPartition { get; init; }

    /// <summary>Factor on the adapter's output, for example alpha / K; taken as it is, 0 gives 0.</summary>
    public required double Scale { get; init; }

    /// <summary>
    /// Added to the normalising sum (<see cref="RankGate.Router"/>) or to the norm
    /// (<see cref="RankGate.ActivationSoftmax"/>), at least 0.
    /// </summary>
    public double Eps { get; init; }

    /// <summary>Divides the logits, greater than 0; 0 means 1.</summary>
    public double Temperature { get; init; }

    /// <summary><see cref="RankGate.ActivationSoftmax"/>: a gate below it is 0; at least 0.</summary>
    public double Threshold { get; init; }

    /// <summary>
    /// Probability that an element of x is dropped, 0 &lt;= p &lt; 1. See <see cref="Dropout"/> for the mask.
    /// </summary>
    public double DropoutP { get; init; }

    /// <summary>Seed of the mask; the same in backward.</summary>
    public ulong DropoutSeed { get; init; }

    /// <summary>Offset of the mask; the same in backward.</summary>
    public ulong DropoutOffset { get; init; }

    /// <summary>
    /// SMoRA: sigmoid scores, the bias in selection and weight, gates that sum to K, scale alpha / K.
    /// Source: arXiv 2501.15103.
    /// </summary>
    /// <param name="alpha">Numerator of the scale.</param>
    /// <param name="k">Active ranks per token, at least 1.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="k"/> is less than 1.</exception>
    public static RankLoraOptions Smora(double alpha, long k)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(k, 1);
        return new RankLoraOptions
        {
            Gate = RankGate.Router,
            Score = GateScore.Sigmoid,
            BiasMode = BiasMode.Weight,
            Normalize = GateNormalize.SumToK,
            Scale = alpha / k,
        };
    }
}
