namespace FineTune;

/// <summary>The loss of one training batch.</summary>
/// <param name="Step">The step, from 1.</param>
/// <param name="BitsPerByte">Cross entropy in bits.</param>
internal readonly record struct BatchLoss(int Step, double BitsPerByte);

/// <summary>The loss on held-out text after some steps.</summary>
/// <param name="Step">Steps taken; 0 before the first.</param>
/// <param name="BitsPerByte">Cross entropy in bits, by domain.</param>
internal sealed record HeldOutLoss(int Step, IReadOnlyDictionary<string, double> BitsPerByte);

/// <summary>What training one model, or one adapter, has shown.</summary>
/// <param name="Batches">The loss of every step.</param>
/// <param name="HeldOut">Held-out losses from before the first step to after the last.</param>
/// <param name="StepTimes">How long the steps took, without evaluations.</param>
internal sealed record TrainingHistory(
    IReadOnlyList<BatchLoss> Batches,
    IReadOnlyList<HeldOutLoss> HeldOut,
    Durations StepTimes);
