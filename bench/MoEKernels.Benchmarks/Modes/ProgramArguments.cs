using System.Globalization;

namespace MoEKernels.Benchmarks.Modes;

internal enum Mode
{
    BenchmarkDotNet,
    Check,
    Quick,
    Help,
}

/// <summary>The program's arguments.</summary>
internal sealed record ProgramArguments(
    Mode Mode, int Threads, string? Only, string? OutFolder, string? Document, IReadOnlyList<string> BenchmarkDotNetArguments)
{
    public const string Help =
        """
        Benchmarks of MoEKernels against the same formulas in plain TorchSharp operations.

          MoEKernels.Benchmarks --check [--threads N]
              Verifies every implementation on small shapes, outputs and gradients, against the formula in f64.
              Takes seconds. Exit code 1 if one of them is wrong.

          MoEKernels.Benchmarks --quick [--threads N] [--only TEXT] [--out FOLDER] [--document FILE]
              Times all ops side by side in a couple of minutes and prints a table of times and ratios.
              --only TEXT      only rows whose op, shape and types, as the table has them, contain TEXT
              --out FOLDER     also write FOLDER/<date>-<commit>.json and .md
              --document FILE  also put the table into a Markdown file, between <!-- results --> and <!-- /results -->

          MoEKernels.Benchmarks [--threads N] [options of BenchmarkDotNet]
              BenchmarkDotNet, all benchmarks unless --filter says otherwise, for example
              --filter '*RankLora*' --job short        --list flat        --anyCategories Forward
              Everything: https://benchmarkdotnet.org/articles/guides/console-args.html

          --threads N  CPU threads of libtorch and of MoEKernels alike, default 1
          --help       this text
        """;

    /// <exception cref="UsageException">An argument is unknown, lacks its value, or contradicts another.</exception>
    public static ProgramArguments Parse(IReadOnlyList<string> arguments)
    {
        Mode mode = Mode.BenchmarkDotNet;
        int threads = 1;
        string? only = null, outFolder = null, document = null;
        List<string> rest = [];
        for (int i = 0; i < arguments.Count; i++)
        {
            string argument = arguments[i];
            switch (argument)
            {
                case "--help" or "-h" or "-?":
                    return new ProgramArguments(Mode.Help, threads, null, null, null, []);
                case "--check" or "--quick":
                    Mode asked = argument == "--check" ? Mode.Check : Mode.Quick;
                    if (mode != Mode.BenchmarkDotNet && mode != asked)
                        throw new UsageException("--check and --quick exclude each other");
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
        if (mode != Mode.Quick && (only ?? outFolder ?? document) is not null)
        {
            string option = only is not null ? "--only" : outFolder is null ? "--document" : "--out";
            throw new UsageException($"{option} goes with --quick only; see --help");
        }
        return new ProgramArguments(mode, threads, only, outFolder, document, rest);
    }

    private static int PositiveNumber(string option, string text) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number is > 0 and <= 1024
            ? number
            : throw new UsageException($"{option} {text}: expected a number from 1 to 1024");
}
