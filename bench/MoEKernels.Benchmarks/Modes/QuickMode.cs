using MoEKernels.Benchmarks.Reports;
using MoEKernels.Benchmarks.Timing;
using MoEKernels.Benchmarks.Workloads;

namespace MoEKernels.Benchmarks.Modes;

/// <summary>The tables of all ops against their twins.</summary>
internal static class QuickMode
{
    private static readonly TimeSpan TimePerRow = TimeSpan.FromSeconds(1.5);

    /// <returns>The exit code.</returns>
    public static int Run(ProgramArguments arguments)
    {
        if (!CaseLists.Quick.Any(arguments.Wants))
            throw new UsageException($"--only {arguments.Only}: no row has that; see the tables of docs/performance.md");

        // Before minutes of measuring, not after.
        var document = arguments.Document is { } path ? new ResultsDocument(path) : null;
        OutputFolder.Create("--out", arguments.OutFolder);
        OutputFolder.Create("--plots", arguments.Plots);

        Machine machine = Machine.Describe();
        List<ReportSection> sections = [];
        foreach (int threads in arguments.Threads)
        {
            if (threads != Session.Threads)
                Session.Start(threads);
            sections.Add(Measure(arguments));
        }

        var report = new Report(machine, sections);
        string markdown = MarkdownReport.Write(report);
        Console.WriteLine();
        Console.WriteLine(markdown);
        if (arguments.OutFolder is { } output)
        {
            string name = Path.Combine(output, $"{report.Machine.Date:yyyy-MM-dd}-{report.Machine.Commit}");
            File.WriteAllText($"{name}.md", markdown);
            File.WriteAllText($"{name}.json", JsonReport.Write(report));
            Console.WriteLine($"Written: {name}.md, {name}.json");
        }
        if (arguments.Plots is { } plots)
        {
            string file = Path.Combine(plots, "roofline.png");
            Console.WriteLine(RooflinePlot.Save(report.Sections[0], file) ? $"Written: {file}" : "No row belongs under a roof: nothing was drawn.");
        }
        document?.Replace(markdown);
        return 0;
    }

    private static ReportSection Measure(ProgramArguments arguments)
    {
        Console.WriteLine($"{Session.Threads} thread(s)");
        var peaks = Peaks.Measure();
        var load = new OtherLoad();
        List<ReportRow> rows = [];
        foreach (WorkloadCase workloadCase in CaseLists.Quick.Where(arguments.Wants))
        {
            using Workload workload = workloadCase.Build();
            foreach (Pass pass in Enum.GetValues<Pass>())
            {
                Action[] competitors =
                    [.. workload.Implementations.Select<Implementation, Action>(i => () => i.Run(pass))];
                IReadOnlyList<Sample> samples = InterleavedTimer.Measure(competitors, TimePerRow);
                var row = new ReportRow(workloadCase, pass, workload.Implementations.Select(i => i.Name).Zip(samples));
                rows.Add(row);
                Console.WriteLine(row.ToConsoleLine());
            }
        }
        double? others = load.Processors();
        return new ReportSection(Session.Threads, peaks.BestOf(Peaks.Measure()), others, rows);
    }
}
