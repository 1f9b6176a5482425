using System.Diagnostics;

using MoEKernels.TorchSharp;

using Spectre.Console;

using static TorchSharp.torch;

namespace FineTune;

/// <summary>The experiment from text to pictures: pre-train a base, freeze it, train each adapter on it, measure, report.</summary>
/// <param name="options">What to do.</param>
/// <param name="console">Where to say what happens.</param>
/// <param name="cancellation">Ends the run between two steps.</param>
internal sealed class FineTuneRun(Options options, IAnsiConsole console, CancellationToken cancellation)
{
    private const double BaseLearningRate = 3e-3;
    private const double BaseWeightDecay = 0.1;
    private const double AdapterLearningRate = 6e-3;

    /// <summary>The base sees every byte equally often, as in a corpus found on the web: large domains outweigh small ones.</summary>
    private const double BaseSizeExponent = 1;

    /// <summary>The adapters see the domains more evenly, since each of them counts the same in the result.</summary>
    private const double AdapterSizeExponent = 0.5;

    private const int Looks = 10;
    private const int TimingRepetitions = 12;

    private readonly RunProgress _progress = new(console, "bits/byte");

    /// <summary>Runs everything.</summary>
    /// <exception cref="UserException">The options cannot be followed; said before any training where that can be known.</exception>
    /// <exception cref="OperationCanceledException">The run was interrupted.</exception>
    public RunResult Execute()
    {
        long start = Stopwatch.GetTimestamp();
        IReadOnlyList<Domain> domains = Corpus.Load(options);
        OutputFolder folder = OutputFolder.Open(options.Out);
        ConsoleReport report = new(console);
        report.ShowDomains(domains);

        // libtorch and the kernels then use the same number of threads: the kernels follow libtorch's.
        set_num_threads(options.Threads);
        manual_seed(options.Seed);
        using ByteTransformer model = new(options.Width, options.Layers, options.Context);
        long parameters = model.parameters().Sum(parameter => parameter.numel());
        IReadOnlyList<AdapterPlan> plans = AdapterPlan.ForEqualBudget(options, model);
        report.ShowPlan(options, parameters, plans);

        using var scope = NewDisposeScope();
        Evaluation evaluation = new(domains, options.Context);
        TrainingHistory pretraining = Pretrain(model, domains, evaluation);
        List<AdapterResult> adapters = [];
        foreach (AdapterPlan plan in plans)
            adapters.Add(Adapt(model, plan, domains, evaluation, folder));

        RunResult result = new(
            options, domains, parameters, pretraining, adapters, Stopwatch.GetElapsedTime(start), PeakMemory());
        WriteFiles(folder, result);
        report.ShowResults(result, folder.Written);
        return result;
    }

    private TrainingHistory Pretrain(ByteTransformer model, IReadOnlyList<Domain> domains, Evaluation evaluation)
    {
        BatchSampler batches = new(domains, options.Batch, options.Context, BaseSizeExponent, options.Seed);
        Trainer trainer = new(model, [new AdapterParameterGroup(BaseLearningRate, [.. model.parameters()])], batches, evaluation);
        TrainingPlan plan = new(options.BaseSteps, BaseWeightDecay, Every(options.BaseSteps));
        return _progress.Stage(
            "pre-train the base", options.BaseSteps, stage => trainer.Run(plan, stage, cancellation));
    }

    private AdapterResult Adapt(
        ByteTransformer model, AdapterPlan plan, IReadOnlyList<Domain> domains, Evaluation evaluation, OutputFolder folder)
    {
        // Every adapter starts from the same seeds, whichever were trained before it.
        manual_seed(options.Seed);
        BatchSampler batches = new(domains, options.Batch, options.Context, AdapterSizeExponent, options.Seed + 1);
        using AdapterHandle adapter = model.AddAdapter(plan.Config);

        Trainer trainer = new(model, adapter.ParameterGroups(plan.LearningRate(AdapterLearningRate)), batches, evaluation);
        TrainingPlan training = new(options.Steps, WeightDecay: 0, Every(options.Steps));
        TrainingHistory history = _progress.Stage(
            $"adapt: {plan.Name}",
            options.Steps,
            stage => trainer.Run(training, stage, cancellation, afterStep: model.UpdateRouterBiases));

        int repetitions = options.Quick ? TimingRepetitions / 3 : TimingRepetitions;
        AdapterTiming timing = _progress.Stage(
            $"time: {plan.Name}",
            repetitions,
            stage => AdapterTiming.Measure(model, adapter, batches, repetitions, stage, cancellation));

        IReadOnlyList<RoutingTable> routing = RoutingTrace.Of(model, adapter, evaluation);
        string file = folder.Write($"{plan.FileName}.safetensors", adapter.Save);
        AdapterReport size = adapter.Report;
        Reload reload = Reload.Check(model, adapter, file, evaluation);
        return new AdapterResult(plan, size.AdapterParameters, size.Layers, history, timing, routing, file, reload);
    }

    private void WriteFiles(OutputFolder folder, RunResult result)
    {
        string[] names = [.. result.Domains.Select(domain => domain.Name)];
        var histories = result.Adapters.Select(adapter => (adapter.Plan.Name, adapter.History)).ToList();
        cancellation.ThrowIfCancellationRequested();
        folder.Write("losses.png", path => PlotStyle.Save(LossPlot.Draw(names, result.Pretraining, histories), path));

        IReadOnlyList<RoutingTable> smora = RoutingOf(AdapterKind.SMoRA);
        IReadOnlyList<RoutingTable> comol = RoutingOf(AdapterKind.CoMoL);
        cancellation.ThrowIfCancellationRequested();
        if (smora.Count + comol.Count > 0)
            folder.Write("routing.png", path => PlotStyle.Save(RoutingPlot.Draw(smora, comol), path));
        folder.Write("results.json", path => JsonReport.Write(path, result));

        IReadOnlyList<RoutingTable> RoutingOf(AdapterKind kind) =>
            result.Adapters.FirstOrDefault(adapter => adapter.Plan.Kind == kind)?.Routing ?? [];
    }

    private static int Every(int steps) => Math.Max(1, steps / Looks);

    private static long PeakMemory()
    {
        using Process process = Process.GetCurrentProcess();
        return process.PeakWorkingSet64;
    }
}
