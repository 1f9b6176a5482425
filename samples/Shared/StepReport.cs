namespace Samples;

/// <summary>The progress of one stage of the run.</summary>
/// <param name="Step">Steps done.</param>
/// <param name="Loss">The loss of the last step, where there is one, in the unit that the stage was given.</param>
internal readonly record struct StepReport(int Step, double? Loss = null);
