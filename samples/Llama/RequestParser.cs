using System.CommandLine;
using System.CommandLine.Help;

namespace Llama;

/// <summary>Turns the command line into a <see cref="Request"/>.</summary>
internal static class RequestParser
{
    /// <summary>Parses and checks the command line.</summary>
    /// <param name="arguments">The arguments of the program.</param>
    /// <param name="output">Where <c>--help</c> and <c>--version</c> write to.</param>
    /// <returns>The request, or null when the user asked for help or for the version and has it now.</returns>
    /// <exception cref="UserException">An argument is missing, unknown, malformed or out of range.</exception>
    public static Request? Parse(string[] arguments, TextWriter output)
    {
        RunOptions defaults = new("");
        Option<string> model = new("--model") { Description = "Model folder: config.json, safetensors, tokenizer", HelpName = "folder" };
        Option<string> adapter = new("--adapter") { Description = $"The adapter to train, one of {AdapterKinds.List} (default {AdapterKinds.NameOf(defaults.Adapter)})", HelpName = "name" };
        Option<string> loadAdapter = new("--load-adapter") { Description = "Folder of a saved adapter, PEFT's or this sample's; it is trained further where --steps is given", HelpName = "folder" };
        Option<int?> steps = Number("--steps", $"Training steps (default {RunOptions.DefaultSteps}; 0 with --load-adapter)");
        Option<int?> rank = Number("--rank", $"Rank of the adapter (default {defaults.Rank})");
        Option<string> targets = new("--targets") { Description = "Layers to adapt, separated by commas: names, globs or all-linear (default: the seven projections of every block)", HelpName = "list" };
        Option<double?> learningRate = new("--learning-rate") { Description = $"Learning rate after the warm-up (default {defaults.LearningRate})", HelpName = "x" };
        Option<int?> context = Number("--context", $"Tokens in a block of training text (default {defaults.Context})");
        Option<int?> batch = Number("--batch", $"Blocks in a step (default {defaults.Batch})");
        Option<bool> recompute = new("--recompute") { Description = "Compute blocks again in backward: less memory, more time" };
        Option<string> dtype = new("--dtype") { Description = $"Element type of the frozen model, one of {ElementType.List} (default f32); adapters stay f32", HelpName = "type" };
        Option<string> prompt = new("--prompt") { Description = "Text to continue in the end", HelpName = "text" };
        Option<int?> newTokens = Number("--max-new-tokens", $"The most tokens to add to it (default {defaults.Generation.MaxNewTokens})");
        Option<double?> temperature = new("--temperature") { Description = "0 takes the likeliest token (default), more draws", HelpName = "x" };
        Option<int?> topK = Number("--top-k", "Draw among this many of the likeliest tokens (default 0: all)");
        Option<string> outFolder = new("--output") { Description = $"Folder for the trained adapter (default {defaults.Output})", HelpName = "folder" };
        Option<int?> threads = Number("--threads", "CPU threads (default: one for each core)");
        Option<string> makeTiny = new("--make-tiny") { Description = "Write a tiny random model to a new folder instead", HelpName = "folder" };
        Option<string> family = new("--family") { Description = $"Its family, one of {ModelConfigReader.FamilyNames} (default llama)", HelpName = "name" };
        Option<int?> shards = Number("--shards", "Files for its weights, about (default 1)");
        Option<string[]> text = new("--text")
        {
            Description = "Text to train on: files, or folders with everything below them (default: this repository's own files)",
            HelpName = "file",
            AllowMultipleArgumentsPerToken = true,
        };
        Option<int?> seed = Number("--seed", $"Seed of everything that is drawn (default {defaults.Seed})");

        Option[] forRuns =
        [
            model, adapter, loadAdapter, steps, rank, targets, learningRate, context, batch, recompute, dtype, prompt, newTokens, temperature, topK, outFolder, threads,
        ];
        Option[] forTiny = [family, shards];
        RootCommand command = new("Loads a Llama or Qwen model folder, trains an adapter on text, saves it, and continues a prompt.");
        foreach (Option option in (Option[])[.. forRuns, text, seed, makeTiny, .. forTiny])
            command.Add(option);

        ParseResult result = command.Parse(arguments);
        if (result.Action is HelpAction or { Terminating: true } && result.Errors.Count == 0)
        {
            result.Invoke(new InvocationConfiguration { Output = output });
            return null;
        }

        if (result.Errors.Count > 0)
            throw new UserException($"{result.Errors[0].Message} (--help lists the options)");

        string[] texts = result.GetValue(text) ?? [];
        int seedValue = AtLeast(0, seed, defaults.Seed);
        if (result.GetValue(makeTiny) is { } tinyFolder)
        {
            RefuseAll(forRuns, "--make-tiny");
            return new TinyOptions(tinyFolder)
            {
                Text = texts,
                Seed = seedValue,
                Shards = AtLeast(1, shards, 1),
                Family = result.GetValue(family) is { } name
                    ? ModelConfigReader.FamilyOf(name) ?? throw new UserException($"--family knows {ModelConfigReader.FamilyNames}; got '{name}'")
                    : ModelFamily.Llama,
            };
        }

        RefuseAll(forTiny, "--model");
        string? loaded = result.GetValue(loadAdapter);
        if (loaded is not null)
            RefuseAll([adapter, rank, targets], "--load-adapter");
        if (result.GetValue(prompt) is null)
            RefuseAllWithout([newTokens, temperature, topK], "--prompt");
        return new RunOptions(result.GetValue(model) ?? throw new UserException("--model folder is missing; --make-tiny folder writes one to try (--help lists the options)"))
        {
            Text = texts,
            Seed = seedValue,
            Adapter = result.GetValue(adapter) is { } kind ? AdapterKinds.Parse(kind, adapter.Name) : defaults.Adapter,
            LoadAdapter = loaded,
            Steps = AtLeast(0, steps, loaded is null ? RunOptions.DefaultSteps : 0),
            Rank = AtLeast(1, rank, defaults.Rank),
            Targets = result.GetValue(targets) is { } list ? ParseTargets(list) : defaults.Targets,
            LearningRate = Positive(learningRate, defaults.LearningRate),
            Context = AtLeast(2, context, defaults.Context),
            Batch = AtLeast(1, batch, defaults.Batch),
            Recompute = result.GetValue(recompute),
            DType = result.GetValue(dtype) is { } type ? ElementType.Parse(type, dtype.Name) : defaults.DType,
            Prompt = result.GetValue(prompt),
            Generation = new GenerationOptions
            {
                MaxNewTokens = AtLeast(1, newTokens, defaults.Generation.MaxNewTokens),
                Temperature = result.GetValue(temperature) is null or 0 ? 0 : Positive(temperature, 0),
                TopK = AtLeast(0, topK, defaults.Generation.TopK),
                Seed = seedValue,
            },
            Output = result.GetValue(outFolder) ?? defaults.Output,
            Threads = AtLeast(1, threads, defaults.Threads),
        };

        bool IsGiven(Option option) => result.GetResult(option) is { Implicit: false };

        void RefuseAll(Option[] options, string beside)
        {
            if (options.FirstOrDefault(IsGiven) is { } option)
                throw new UserException($"{option.Name} has no meaning with {beside}");
        }

        void RefuseAllWithout(Option[] options, string missing)
        {
            if (options.FirstOrDefault(IsGiven) is { } option)
                throw new UserException($"{option.Name} has no meaning without {missing}");
        }

        int AtLeast(int least, Option<int?> option, int fallback)
        {
            int value = result.GetValue(option) ?? fallback;
            return value >= least ? value : throw new UserException($"{option.Name} must be at least {least}, got {value}");
        }

        double Positive(Option<double?> option, double fallback)
        {
            double value = result.GetValue(option) ?? fallback;
            return value > 0 && double.IsFinite(value) ? value : throw new UserException($"{option.Name} must be a number above 0, got {value}");
        }
    }

    private static Option<int?> Number(string name, string what) => new(name) { Description = what, HelpName = "n" };

    private static string[] ParseTargets(string list)
    {
        string[] targets = list.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        return targets.Length > 0 ? targets : throw new UserException("--targets needs at least one layer");
    }
}
