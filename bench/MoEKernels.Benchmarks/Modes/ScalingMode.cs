using System.Globalization;
using MoEKernels.Benchmarks.Reports;
using MoEKernels.Benchmarks.Timing;
using MoEKernels.Benchmarks.Workloads;

namespace MoEKernels.Benchmarks.Modes;

/// <summary>How times grow with each dimension of an op.</summary>
internal static class ScalingMode
{
    private static readonly TimeSpan TimePerPoint = TimeSpan.FromSeconds(0.4);

    /// <returns>The exit code.</returns>
    public static int Run(ProgramArguments arguments)
    {
        Sweep[] sweeps = [.. CaseLists.Scaling
            .Select(sweep => sweep with { Points = [.. sweep.Points.Where(point => arguments.Wants(point.Case))] })
            .Where(sweep => sweep.Points.Count > 0)];
        if (sweeps.Length == 0)
            throw new UsageException($"--only {arguments.Only}: no case has that");
        OutputFolder.Create("--plots", arguments.Plots);

        var machine = Machine.Describe();
        var load = new OtherLoad();
        List<MeasuredSweep> measured = [];
        foreach (Sweep sweep in sweeps)
        {
            List<(long Value, Pass Pass, Sample Torch, Sample Fused)> points = [];
            foreach ((long value, WorkloadCase workloadCase) in sweep.Points)
            {
                using Workload workload = workloadCase.Build();
                Implementation torch = workload[Implementation.Torch], fused = workload[Implementation.Fused];
                foreach (Pass pass in Enum.GetValues<Pass>())
                {
                    IReadOnlyList<Sample> samples = InterleavedTimer.Measure([() => torch.Run(pass), () => fused.Run(pass)], TimePerPoint);
                    points.Add((value, pass, samples[0], samples[1]));
                    Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                        $"{workloadCase.Op,-10} {workloadCase.Shape,-38} {MarkdownReport.NameOf(pass),-16} torch {samples[0].Median,9:F4} ms, fused {samples[1].Median,9:F4} ms, {samples[0].Median / samples[1].Median:F2}x"));
                }
            }
            measured.Add(new MeasuredSweep(sweep.Title, sweep.Axis, points));
        }

        Console.WriteLine();
        foreach (string line in machine.Lines)
            Console.WriteLine(line);
        Console.WriteLine(load.Processors() is { } others
            ? string.Create(CultureInfo.InvariantCulture, $"{Session.Threads} thread(s); other processes: {others:F2} processors busy")
            : $"{Session.Threads} thread(s)");
        string file = Path.Combine(arguments.Plots!, "scaling.png");
        ScalingPlot.Save(measured, file);
        Console.WriteLine($"Written: {file}");
        return 0;
    }
}
