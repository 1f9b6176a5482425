using System.Globalization;
using MoEKernels.Benchmarks.Workloads;

namespace MoEKernels.Benchmarks.Modes;

internal enum Mode
{
    BenchmarkDotNet,
    Check,
    Quick,
    Scaling,
    Help,
}

/// <summary>The program's arguments.</summary>
/// <param name="Mode">What to do.</param>
/// <param name="Threads">How many threads; several numbers for the quick mode, one after another.</param>
/// <param name="Only">Text that the rows to measure contain; null for all of them.</param>
/// <param name="OutFolder">Folder for results; null for none.</param>
/// <param name="Document">Markdown file to put the results into; null for none.</param>
/// <param name="Plots">Folder for pictures; null for none.</param>
/// <param name="BenchmarkDotNetArguments">What is left for BenchmarkDotNet.</param>
internal sealed record ProgramArguments(
    Mode Mode,
    IReadOnlyList<int> Threads,
    string? Only,
    string? OutFolder,
    string? Document,
    string? Plots,
    IReadOnlyList<string> BenchmarkDotNetArguments)
{
    public const string Help =
        """
        Benchmarks of MoEKernels against the same formulas in plain TorchSharp operations.

          MoEKernels.Benchmarks --check [--threads N]
              Verifies every implementation on small shapes, outputs and gradients, against the formula in f64.
              Takes seconds. Exit code 1 if one of them is wrong.

          MoEKernels.Benchmarks --quick [--threads N] [--only TEXT] [--out FOLDER] [--document FILE] [--plots FOLDER]
              Times all ops side by side in a few minutes, on one thread and on all, and prints tables of times and ratios.
              --only TEXT      only rows whose op, shape and types, as the table has them, contain TEXT
              --out FOLDER     also write FOLDER/<date>-<commit>.json and .md
              --document FILE  also put the tables into a Markdown file, between <!-- results --> and <!-- /results -->
              --plots FOLDER   also draw FOLDER/roofline.png

          MoEKernels.Benchmarks --scaling --plots FOLDER [--threads N] [--only TEXT]
              Times the ops over T, r, k and E in two minutes and draws FOLDER/scaling.png.

          MoEKernels.Benchmarks [--threads N] [options of BenchmarkDotNet]
              BenchmarkDotNet, all benchmarks unless --filter says otherwise, for example
              --filter '*RankLora*' --job short        --list flat        --anyCategories Forward
              Everything: https://benchmarkdotnet.org/articles/guides/console-args.html

          --threads N  CPU threads of libtorch and of MoEKernels alike, default 1, with --quick 1 and then all
          --help       this text
        """;

    /// <exception cref="UsageException">An argument is unknown, lacks its value, or contradicts another.</exception>
    public static ProgramArguments Parse(IReadOnlyList<string> arguments)
    {
        Mode mode = Mode.BenchmarkDotNet;
        int? threads = null;
        string? only = null, outFolder = null, document = null, plots = null;
        List<string> rest = [];
        for (int i = 0; i < arguments.Count; i++)
        {
            string argument = arguments[i];
            switch (argument)
            {
                case "--help" or "-h" or "-?":
                    return new ProgramArguments(Mode.Help, [1], null, null, null, null, []);
                case "--check" or "--quick" or "--scaling":
                    Mode asked = argument switch { "--check" => Mode.Check, "--quick" => Mode.Quick, _ => Mode.Scaling };
                    if (mode != Mode.BenchmarkDotNet && mode != asked)
                        throw new UsageException("--check, --quick and --scaling exclude each other");
                    mode = asked;
                    break;
                case "--threads":
                    threads = PositiveNumber(argument, Value());
                    break;
                case "--only":
                    only = Value();
                    break;
                case "--out":
                    outFolder = Value();
                    break;
                case "--document":
                    document = Value();
                    break;
                case "--plots":
                    plots = Value();
                    break;
                default:
                    rest.Add(argument);
                    break;
            }

            string Value() => ++i < arguments.Count && !arguments[i].StartsWith("--", StringComparison.Ordinal)
                ? arguments[i]
                : throw new UsageException($"{argument} needs a value; see --help");
        }

        if (mode != Mode.BenchmarkDotNet && rest.Count > 0)
            throw new UsageException($"unknown argument '{rest[0]}'; see --help");
        if (mode != Mode.Quick && (outFolder ?? document) is not null)
            throw new UsageException($"{(outFolder is null ? "--document" : "--out")} goes with --quick only; see --help");
        if (mode is not (Mode.Quick or Mode.Scaling) && (only ?? plots) is not null)
            throw new UsageException($"{(only is null ? "--plots" : "--only")} goes with --quick and --scaling only; see --help");
        if (mode == Mode.Scaling && plots is null)
            throw new UsageException("--scaling needs --plots FOLDER; see --help");
        int[] threadCounts = threads is { } given ? [given]
            : mode == Mode.Quick && Environment.ProcessorCount > 1 ? [1, Environment.ProcessorCount]
            : [1];
        return new ProgramArguments(mode, threadCounts, only, outFolder, document, plots, rest);
    }

    /// <summary>Whether a case is among those asked for.</summary>
    public bool Wants(WorkloadCase workloadCase) =>
        Only is null || $"{workloadCase.Op} {workloadCase.Shape} {workloadCase.Precision}".Contains(Only, StringComparison.OrdinalIgnoreCase);

    private static int PositiveNumber(string option, string text) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number is > 0 and <= 1024
            ? number
            : throw new UsageException($"{option} {text}: expected a number from 1 to 1024");
}
