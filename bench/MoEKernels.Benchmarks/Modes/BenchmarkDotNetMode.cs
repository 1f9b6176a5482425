using BenchmarkDotNet.Configs;
using BenchmarkDotNet.ConsoleArguments;
using BenchmarkDotNet.ConsoleArguments.ListBenchmarks;
using BenchmarkDotNet.Loggers;
using BenchmarkDotNet.Reports;
using BenchmarkDotNet.Running;
using MoEKernels.Benchmarks.Benchmarks;
using MoEKernels.Benchmarks.Timing;

namespace MoEKernels.Benchmarks.Modes;

/// <summary>BenchmarkDotNet with its own options.</summary>
internal static class BenchmarkDotNetMode
{
    /// <returns>The exit code.</returns>
    public static int Run(IReadOnlyList<string> arguments)
    {
        // In this process: a child process is a project of BenchmarkDotNet's own, built without what makes TorchSharp
        // load everywhere.
        List<string> all = [.. arguments, "--inProcess"];
        CommandLineOptions options = Check([.. all]);
        // Without a filter it would ask on the console which class to run.
        if (!options.Filters.Any() && !options.AllCategories.Any() && !options.AnyCategories.Any())
            all.AddRange(["--filter", "*"]);

        IConfig config = DefaultConfig.Instance.AddColumn(WorkloadColumn.All(Peaks.Measure));
        Summary[] summaries = [.. BenchmarkSwitcher.FromAssembly(typeof(OpBenchmarks).Assembly).Run([.. all], config)];
        if (options.ListBenchmarkCaseMode != ListBenchmarkCaseMode.Disabled || options.PrintInformation)
            return 0;

        // A benchmark that failed is a line with NA in a table, and BenchmarkDotNet itself is content with that.
        bool succeeded = summaries.Length > 0 && summaries.All(summary =>
            !summary.HasCriticalValidationErrors
            && summary.Reports.Length > 0
            && summary.Reports.All(report => report.Success));
        if (!succeeded)
            Console.Error.WriteLine(summaries.Length == 0 ? "No benchmark was run." : "Some benchmarks failed.");
        return succeeded ? 0 : 1;
    }

    /// <exception cref="UsageException">An option is unknown; BenchmarkDotNet would print all its help.</exception>
    private static CommandLineOptions Check(string[] arguments)
    {
        var log = new AccumulationLogger();
        (bool isSuccess, _, CommandLineOptions options) = ConfigParser.Parse(arguments, log);
        if (isSuccess)
            return options;
        const StringSplitOptions Clean = StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries;
        string[] lines = log.GetLog().Split('\n', Clean);
        int heading = Array.FindIndex(lines, line => line.StartsWith("ERROR", StringComparison.Ordinal));
        throw new UsageException($"{lines.ElementAtOrDefault(heading + 1) ?? "unknown option"} See --help.");
    }
}
