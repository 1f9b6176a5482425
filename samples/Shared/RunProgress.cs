using System.Diagnostics;

using Spectre.Console;
using Spectre.Console.Rendering;

namespace Samples;

/// <summary>Shows a progress bar on a terminal, and a plain line now and then where the output goes to a file or a log.</summary>
/// <param name="console">Where to write to.</param>
/// <param name="lossUnit">What the losses that stages report are measured in.</param>
internal sealed class RunProgress(IAnsiConsole console, string lossUnit)
{
    private static readonly TimeSpan PlainInterval = TimeSpan.FromSeconds(5);

    /// <summary>Whether a bar can be drawn and redrawn.</summary>
    private bool IsTerminal => console.Profile.Capabilities.Interactive && console.Profile.Capabilities.Ansi;

    /// <summary>Runs one stage and shows how far it is.</summary>
    /// <param name="name">What the stage does.</param>
    /// <param name="steps">How many steps it reports.</param>
    /// <param name="work">The work; it reports each step.</param>
    /// <param name="unit">What a step is called.</param>
    public T Stage<T>(string name, int steps, Func<IProgress<StepReport>, T> work, string unit = "steps") =>
        IsTerminal ? Bar(name, steps, work, unit) : Lines(name, steps, work, unit);

    private T Bar<T>(string name, int steps, Func<IProgress<StepReport>, T> work, string unit)
    {
        StageClock clock = new(steps, unit, lossUnit);
        return console.Progress()
            .Columns(
                new TaskDescriptionColumn { Alignment = Justify.Left },
                new ProgressBarColumn(),
                new PercentageColumn(),
                new ClockColumn(clock))
            .Start(context =>
            {
                ProgressTask task = context.AddTask(Markup.Escape(name.PadRight(18)), maxValue: steps);
                T result = work(new Reporter(report =>
                {
                    clock.Report(report);
                    task.Value = report.Step;
                }));
                task.StopTask();
                return result;
            });
    }

    private T Lines<T>(string name, int steps, Func<IProgress<StepReport>, T> work, string unit)
    {
        StageClock clock = new(steps, unit, lossUnit);
        long last = Stopwatch.GetTimestamp();
        return work(new Reporter(report =>
        {
            clock.Report(report);
            if (report.Step < steps && Stopwatch.GetElapsedTime(last) < PlainInterval)
                return;
            last = Stopwatch.GetTimestamp();
            console.WriteLine($"{name,-18} {report.Step,5}/{steps} {100 * report.Step / steps,3} %  {clock}");
        }));
    }

    /// <summary>Calls back at once, on the reporting thread; <see cref="Progress{T}"/> would queue.</summary>
    private sealed class Reporter(Action<StepReport> callback) : IProgress<StepReport>
    {
        public void Report(StepReport value) => callback(value);
    }

    private sealed class ClockColumn(StageClock clock) : ProgressColumn
    {
        public override IRenderable Render(RenderOptions options, ProgressTask task, TimeSpan deltaTime) =>
            new Text(clock.ToString());
    }
}
