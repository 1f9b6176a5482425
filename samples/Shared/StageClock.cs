using System.Diagnostics;

namespace Samples;

/// <summary>Rate and remaining time of one stage.</summary>
/// <param name="steps">The steps of the stage.</param>
/// <param name="unit">What a step is called.</param>
/// <param name="lossUnit">What losses are measured in.</param>
internal sealed class StageClock(int steps, string unit, string lossUnit)
{
    private readonly long _start = Stopwatch.GetTimestamp();
    private volatile StepState _state = new(0, null);

    /// <summary>Steps done.</summary>
    public int Step => _state.Step;

    /// <summary>The time since the stage began.</summary>
    public TimeSpan Elapsed => Stopwatch.GetElapsedTime(_start);

    /// <summary>Takes note of a step.</summary>
    public void Report(StepReport report) => _state = new StepState(report.Step, report.Loss);

    /// <summary>One line: rate, last loss, and the time left in this stage.</summary>
    public override string ToString()
    {
        StepState state = _state;
        TimeSpan elapsed = Elapsed;
        if (state.Step == 0)
            return "starting";

        double rate = state.Step / Math.Max(elapsed.TotalSeconds, 1e-3);
        string loss = state.Loss is { } value ? $"{value:0.000} {lossUnit}, " : "";
        string time = state.Step >= steps
            ? $"took {Format(elapsed)}"
            : $"{Format(TimeSpan.FromSeconds((steps - state.Step) / rate))} left";
        return $"{rate:0.0} {unit}/s, {loss}{time}";
    }

    /// <summary>Minutes and seconds.</summary>
    public static string Format(TimeSpan time) => $"{(int)time.TotalMinutes}:{time.Seconds:00}";

    private sealed record StepState(int Step, double? Loss);
}
