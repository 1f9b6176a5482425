using MoEKernels.TorchSharp;

using Spectre.Console;

using static TorchSharp.torch;

namespace Llama;

/// <summary>The whole road: load, measure, adapt, measure again, save, continue a prompt.</summary>
/// <param name="options">What to do.</param>
/// <param name="console">Where to tell about it.</param>
/// <param name="cancellation">Stops between two steps.</param>
internal sealed class LlamaRun(RunOptions options, IAnsiConsole console, CancellationToken cancellation)
{
    /// <summary>Losses that are shown of a training.</summary>
    private const int LossesShown = 6;

    private readonly RunProgress _progress = new(console, "nats/token");

    /// <summary>Runs.</summary>
    /// <exception cref="UserException">Files or options cannot be used; said before any training where that can be known.</exception>
    /// <exception cref="OperationCanceledException">The run was interrupted.</exception>
    public void Execute()
    {
        // libtorch and the kernels then use the same number of threads: the kernels follow libtorch's.
        set_num_threads(options.Threads);
        manual_seed(options.Seed);
        ModelConfig config = ModelConfigReader.Read(options.Model);
        TextTokenizer tokenizer = TokenizerFolder.Load(options.Model, config);
        IReadOnlyList<int>? prompt = options.Prompt is { } text ? tokenizer.Encode(text) : null;
        TokenBlocks? blocks = options.Steps > 0 ? ReadText(tokenizer, config) : null;

        using CausalModel model = _progress.Stage(
            "load", config.Layers, stage => CheckpointLoader.Load(options.Model, config, options.DType, stage), "layers");
        console.WriteLine(Describe(model));
        model.Recomputes = options.Recompute;
        using AdapterHandle? adapter = AddAdapter(model);
        if (blocks is not null && adapter is not null)
            Train(model, adapter, blocks);
        if (prompt is not null)
            Continue(model, tokenizer, prompt);
    }

    private TokenBlocks ReadText(TextTokenizer tokenizer, ModelConfig config)
    {
        if (options.Context > config.MaxPositions)
            throw new UserException($"--context is {options.Context}; the model's max_position_embeddings is {config.MaxPositions}");
        IReadOnlyList<string> texts = TextSource.Read(options.Text);
        TokenBlocks blocks = _progress.Stage("read the text", texts.Count, Tokenize, "files");
        console.WriteLine(
            $"text: {texts.Count:N0} files, {blocks.Count:N0} tokens; {blocks.Training.Count:N0} blocks of {blocks.Context} to train on, "
            + $"{Math.Min(Perplexity.MostBlocks, blocks.HeldOut.Count)} of {blocks.HeldOut.Count:N0} held out to measure");
        return blocks;

        TokenBlocks Tokenize(IProgress<StepReport> stage)
        {
            List<IReadOnlyList<int>> tokens = [];
            foreach (string text in texts)
            {
                cancellation.ThrowIfCancellationRequested();
                tokens.Add(tokenizer.Encode(text));
                stage.Report(new StepReport(tokens.Count));
            }

            return TokenBlocks.Cut(tokens, config.EndTokens is [int end, ..] ? end : null, options.Context);
        }
    }

    private string Describe(CausalModel model)
    {
        ModelConfig config = model.Config;
        long parameters = model.parameters().Sum(parameter => parameter.numel());
        return $"model: {ModelConfigReader.NameOf(config.Family)}, {parameters:N0} parameters in {ElementType.NameOf(options.DType)}; {config.Layers} layers of width {config.Width}, "
            + $"{config.Heads} heads on {config.KeyValueHeads} of keys and values, {config.Vocabulary:N0} tokens";
    }

    private AdapterHandle? AddAdapter(CausalModel model)
    {
        AdapterHandle adapter;
        string name;
        if (options.LoadAdapter is { } folder)
        {
            adapter = AdapterFolder.Load(model, folder);
            name = $"loaded from {folder}";
        }
        else if (options.Steps == 0)
        {
            return null;
        }
        else
        {
            try
            {
                adapter = model.AddAdapter(AdapterChoice.Configure(options.Adapter, options.Rank, options.Targets));
            }
            catch (ArgumentException failure)
            {
                // Without the name of the library's parameter, which follows the message.
                throw new UserException($"the adapter does not fit the model: {failure.Message.Split(" (Parameter")[0]}", failure);
            }

            name = $"{AdapterKinds.NameOf(options.Adapter)}, rank {options.Rank}";
        }

        AdapterReport report = adapter.Report;
        console.WriteLine($"adapter: {name}; {report.AdapterParameters:N0} trainable parameters in {report.Layers} layers, {100 * report.TrainableShare:0.00} % of all");
        return adapter;
    }

    private void Train(CausalModel model, AdapterHandle adapter, TokenBlocks blocks)
    {
        double before = Perplexity.Of(model, blocks, options.Batch, cancellation);
        TrainingPlan plan = new(options.Steps, options.Batch, options.LearningRate, options.Seed);
        Trainer trainer = new(model, adapter, blocks);
        IReadOnlyList<double> losses = _progress.Stage("train", plan.Steps, stage => trainer.Run(plan, stage, cancellation));
        double after = Perplexity.Of(model, blocks, options.Batch, cancellation);

        int shown = Math.Min(LossesShown, losses.Count);
        var parts = Enumerable.Range(0, shown).Select(part =>
            losses.Skip(part * losses.Count / shown).Take(((part + 1) * losses.Count / shown) - (part * losses.Count / shown)).Average());
        console.WriteLine($"loss, nats per token: {string.Join(" → ", parts.Select(loss => $"{loss:0.000}"))}");
        console.WriteLine($"held-out perplexity: {before:N1} before, {after:N1} after");
        foreach (string file in AdapterFolder.Save(adapter, options.Output))
            console.WriteLine($"saved: {file}");
    }

    private void Continue(CausalModel model, TextTokenizer tokenizer, IReadOnlyList<int> prompt)
    {
        IReadOnlyList<int> added = _progress.Stage(
            "write", options.Generation.MaxNewTokens, stage => Generator.Continue(model, prompt, options.Generation, stage, cancellation), "tokens");
        console.WriteLine($"prompt: {options.Prompt}");
        console.WriteLine($"continuation, {added.Count} tokens:");
        console.WriteLine(tokenizer.Decode(added));
    }
}
