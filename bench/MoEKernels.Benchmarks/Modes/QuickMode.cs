using MoEKernels.Benchmarks.Reports;
using MoEKernels.Benchmarks.Timing;
using MoEKernels.Benchmarks.Workloads;

namespace MoEKernels.Benchmarks.Modes;

/// <summary>The table of all ops against their twins.</summary>
internal static class QuickMode
{
    private static readonly TimeSpan TimePerRow = TimeSpan.FromSeconds(2);

    /// <returns>The exit code.</returns>
    public static int Run(ProgramArguments arguments)
    {
        bool Wanted(WorkloadCase workloadCase) =>
            arguments.Only is not { } text
            || $"{workloadCase.Op} {workloadCase.Shape} {workloadCase.Precision}".Contains(text, StringComparison.OrdinalIgnoreCase);
        if (!CaseLists.Quick.Any(Wanted))
            throw new UsageException($"--only {arguments.Only}: no row has that; see the tables of docs/performance.md");

        // Before minutes of measuring, not after.
        var document = arguments.Document is { } path ? new ResultsDocument(path) : null;
        if (arguments.OutFolder is { } folder)
            CreateFolder(folder);

        Machine machine = Machine.Describe();
        var load = new OtherLoad();
        List<ReportRow> rows = [];
        foreach (WorkloadCase workloadCase in CaseLists.Quick.Where(Wanted))
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

        var report = new Report(machine, Session.Threads, load.Processors(), rows);
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
        document?.Replace(markdown);
        return 0;
    }

    private static void CreateFolder(string folder)
    {
        try
        {
            Directory.CreateDirectory(folder);
            // A folder that exists may still refuse files.
            string probe = Path.Combine(folder, Path.GetRandomFileName());
            File.Create(probe, bufferSize: 1, FileOptions.DeleteOnClose).Dispose();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            throw new UsageException($"--out {folder}: {e.Message}");
        }
    }
}
