namespace FineTune;

/// <summary>Everything a run has found out.</summary>
/// <param name="Options">The options.</param>
/// <param name="Domains">The text.</param>
/// <param name="BaseParameters">Parameters of the base model.</param>
/// <param name="Pretraining">How the base was trained.</param>
/// <param name="Adapters">The adapters, in the order of the options.</param>
/// <param name="Elapsed">The time from start to end.</param>
/// <param name="PeakMemoryBytes">The largest resident set of the process; 0 where the system does not tell.</param>
internal sealed record RunResult(
    Options Options,
    IReadOnlyList<Domain> Domains,
    long BaseParameters,
    TrainingHistory Pretraining,
    IReadOnlyList<AdapterResult> Adapters,
    TimeSpan Elapsed,
    long PeakMemoryBytes)
{
    /// <summary>The frozen base's held-out bits per byte by domain.</summary>
    public IReadOnlyDictionary<string, double> Base => Pretraining.HeldOut[^1].BitsPerByte;
}
