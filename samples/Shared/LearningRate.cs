namespace Samples;

/// <summary>Linear warm-up, then half a cosine down to a tenth.</summary>
/// <param name="Peak">The learning rate after the warm-up.</param>
/// <param name="Steps">The number of steps in all.</param>
internal sealed record LearningRate(double Peak, int Steps)
{
    private const double WarmUpShare = 0.05;
    private const double FinalShare = 0.1;

    /// <summary>The learning rate of one step.</summary>
    /// <param name="step">The step, from 0.</param>
    public double At(int step)
    {
        double warmUp = Math.Max(1, WarmUpShare * Steps);
        if (step < warmUp)
            return Peak * (step + 1) / (warmUp + 1);
        double progress = (step - warmUp) / Math.Max(1, Steps - warmUp);
        return Peak * (FinalShare + ((1 - FinalShare) * 0.5 * (1 + Math.Cos(Math.PI * progress))));
    }
}
