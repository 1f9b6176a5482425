namespace Llama;

/// <summary>How the frequencies of the rotary positions are stretched for contexts longer than those the model was first trained on.</summary>
internal abstract record RotaryScaling
{
    /// <summary>The frequency that takes the place of one.</summary>
    /// <param name="frequency">Radians per position.</param>
    public abstract double Scale(double frequency);
}

/// <summary>All positions are divided by one factor: <c>rope_type</c> "linear".</summary>
/// <param name="Factor">The factor, above 0.</param>
internal sealed record LinearScaling(double Factor) : RotaryScaling
{
    /// <inheritdoc/>
    public override double Scale(double frequency) => frequency / Factor;
}

/// <summary>
/// <c>rope_type</c> "llama3": waves that fit often into the first context stay, those that are longer than a part of it are stretched by the factor, and
/// those between are blended.
/// </summary>
/// <param name="Factor">How much long waves are stretched.</param>
/// <param name="LowFrequencyFactor">A wave that fits fewer times than this into the first context is long.</param>
/// <param name="HighFrequencyFactor">A wave that fits more often than this is short; more than <paramref name="LowFrequencyFactor"/>.</param>
/// <param name="OriginalPositions">The length of the first context.</param>
internal sealed record Llama3Scaling(double Factor, double LowFrequencyFactor, double HighFrequencyFactor, double OriginalPositions) : RotaryScaling
{
    /// <inheritdoc/>
    public override double Scale(double frequency)
    {
        double times = OriginalPositions * frequency / (2 * Math.PI);
        if (times > HighFrequencyFactor)
            return frequency;
        if (times < LowFrequencyFactor)
            return frequency / Factor;
        double kept = (times - LowFrequencyFactor) / (HighFrequencyFactor - LowFrequencyFactor);
        return (kept * frequency) + ((1 - kept) * frequency / Factor);
    }
}
