namespace FineTune;

/// <summary>The progress of one stage of the run.</summary>
/// <param name="Step">Steps done.</param>
/// <param name="BitsPerByte">The loss of the last step, where there is one.</param>
internal readonly record struct StepReport(int Step, double? BitsPerByte = null);
