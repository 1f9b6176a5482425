namespace FineTune;

/// <summary>The text of one domain, cut into what is trained on and what is only measured.</summary>
/// <param name="Name">The name shown in tables and plots.</param>
/// <param name="Training">Bytes to train on.</param>
/// <param name="HeldOut">Bytes the model never trains on.</param>
/// <param name="TrainingFiles">The files <paramref name="Training"/> came from.</param>
/// <param name="HeldOutFiles">The files <paramref name="HeldOut"/> came from; empty when a single file was cut in two.</param>
internal sealed record Domain(
    string Name,
    byte[] Training,
    byte[] HeldOut,
    IReadOnlyList<string> TrainingFiles,
    IReadOnlyList<string> HeldOutFiles);
