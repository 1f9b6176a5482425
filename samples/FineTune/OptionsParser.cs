using System.CommandLine;
using System.CommandLine.Help;

namespace FineTune;

/// <summary>Turns the command line into <see cref="Options"/>.</summary>
internal static class OptionsParser
{
    /// <summary>Parses and checks the command line.</summary>
    /// <param name="arguments">The arguments of the program.</param>
    /// <param name="output">Where <c>--help</c> and <c>--version</c> write to.</param>
    /// <returns>The options, or null when the user asked for help or for the version and has it now.</returns>
    /// <exception cref="UserException">An argument is unknown, malformed or out of range.</exception>
    public static Options? Parse(string[] arguments, TextWriter output)
    {
        Option<string[]> data = new("--data")
        {
            Description = "Text of one domain: a file, or a folder with everything below it. Repeatable. "
                + "Default: this repository's hand-written C#, C++/CUDA and Markdown",
            HelpName = "name=path",
            AllowMultipleArgumentsPerToken = true,
        };
        Option<string> outFolder = new("--out") { Description = "Folder for everything written (default out/finetune)", HelpName = "folder" };
        Option<string> adapters = new("--adapter", "--adapters")
        {
            Description = $"Which adapters to train and compare, of {AdapterKinds.List} (default lora,smora,comol)",
            HelpName = "list",
        };
        Option<bool> quick = new("--quick") { Description = "A small model and few steps: under a minute on two cores" };
        Option<int?> seed = Number("--seed", "Seed of weights and batches", o => o.Seed);
        Option<int?> baseSteps = Number("--base-steps", "Steps that pre-train the base", o => o.BaseSteps);
        Option<int?> steps = Number("--steps", "Steps of each adapter", o => o.Steps);
        Option<int?> width = Number("--width", $"Width of the model, a multiple of {Options.HeadWidth}", o => o.Width);
        Option<int?> layers = Number("--layers", "Transformer blocks", o => o.Layers);
        Option<int?> context = Number("--context", "Bytes in a sequence", o => o.Context);
        Option<int?> batch = Number("--batch", "Sequences in a batch", o => o.Batch);
        Option<int?> rank = Number("--rank", "Rank of SMoRA, which sets the parameter budget of all adapters", o => o.Rank);
        Option<int?> threads = new("--threads") { Description = "CPU threads (default: one for each core)", HelpName = "n" };

        RootCommand command = new(
            "Pre-trains a small byte-level transformer, freezes it, and adapts it with LoRA, SMoRA, CoMoL or any other adapter of the library.")
        {
            data, outFolder, adapters, quick, seed, baseSteps, steps, width, layers, context, batch, rank, threads,
        };

        ParseResult result = command.Parse(arguments);
        if (result.Action is HelpAction or { Terminating: true } && result.Errors.Count == 0)
        {
            result.Invoke(new InvocationConfiguration { Output = output });
            return null;
        }

        if (result.Errors.Count > 0)
            throw new UserException($"{result.Errors[0].Message} (--help lists the options)");

        Options defaults = result.GetValue(quick) ? Options.ForQuickRun : new Options();
        Options options = defaults with
        {
            Data = [.. (result.GetValue(data) ?? []).Select(ParseSource)],
            Out = result.GetValue(outFolder) ?? defaults.Out,
            Adapters = result.GetValue(adapters) is { } list ? ParseAdapters(list) : defaults.Adapters,
            Seed = AtLeast(0, seed, defaults.Seed),
            BaseSteps = AtLeast(1, baseSteps, defaults.BaseSteps),
            Steps = AtLeast(1, steps, defaults.Steps),
            Width = AtLeast(Options.HeadWidth, width, defaults.Width),
            Layers = AtLeast(1, layers, defaults.Layers),
            Context = AtLeast(8, context, defaults.Context),
            Batch = AtLeast(1, batch, defaults.Batch),
            Rank = AtLeast(2, rank, defaults.Rank),
            Threads = AtLeast(1, threads, defaults.Threads),
        };

        if (options.Width % Options.HeadWidth != 0)
            throw new UserException($"--width must be a multiple of {Options.HeadWidth}, got {options.Width}");

        string? twice = options.Data.GroupBy(s => s.Domain, StringComparer.OrdinalIgnoreCase)
            .FirstOrDefault(g => g.Count() > 1)?.Key;
        return twice is null ? options : throw new UserException($"--data names the domain '{twice}' more than once");

        int AtLeast(int least, Option<int?> option, int fallback)
        {
            int value = result.GetValue(option) ?? fallback;
            return value >= least
                ? value
                : throw new UserException($"{option.Name} must be at least {least}, got {value}");
        }
    }

    private static Option<int?> Number(string name, string what, Func<Options, int> setting)
    {
        int normal = setting(new Options());
        int quick = setting(Options.ForQuickRun);
        string defaults = normal == quick ? $"default {normal}" : $"default {normal}, with --quick {quick}";
        return new Option<int?>(name) { Description = $"{what} ({defaults})", HelpName = "n" };
    }

    private static DataSource ParseSource(string text)
    {
        int equals = text.IndexOf('=', StringComparison.Ordinal);
        return equals > 0 && equals < text.Length - 1
            ? new DataSource(text[..equals], text[(equals + 1)..])
            : throw new UserException($"--data expects name=path, got '{text}'");
    }

    private static AdapterKind[] ParseAdapters(string list)
    {
        AdapterKind[] kinds = [.. list
            .Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)
            .Select(name => AdapterKinds.Parse(name, "--adapter"))
            .Distinct()];
        return kinds.Length > 0 ? kinds : throw new UserException($"--adapter needs at least one of {AdapterKinds.List}");
    }
}
