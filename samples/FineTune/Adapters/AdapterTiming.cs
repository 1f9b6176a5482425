using System.Diagnostics;

using MoEKernels.TorchSharp;

using static TorchSharp.torch;

namespace FineTune;

/// <summary>How long forward and backward take with the kernels and with the same formula in plain TorchSharp.</summary>
/// <param name="LayersWithoutAdapter">All adapted layers on their real inputs, the adapter switched off: the frozen linear layers alone.</param>
/// <param name="LayersWithKernels">The same layers with the adapter.</param>
/// <param name="LayersWithTwin">The same layers with the plain-TorchSharp twin of the adapter.</param>
/// <param name="ModelWithKernels">The whole model with the adapter.</param>
/// <param name="ModelWithTwin">The whole model with the twin.</param>
/// <param name="LargestLossDifference">The largest difference, in bits per byte, between the losses of adapter and twin on a batch.</param>
internal sealed record AdapterTiming(
    Durations LayersWithoutAdapter,
    Durations LayersWithKernels,
    Durations LayersWithTwin,
    Durations ModelWithKernels,
    Durations ModelWithTwin,
    double LargestLossDifference)
{
    /// <summary>What the adapter adds to the frozen layers in the least disturbed step, in milliseconds.</summary>
    public double AddedByKernels => LayersWithKernels.MinMilliseconds - LayersWithoutAdapter.MinMilliseconds;

    /// <summary>What the twin adds to the frozen layers in the least disturbed step, in milliseconds.</summary>
    public double AddedByTwin => LayersWithTwin.MinMilliseconds - LayersWithoutAdapter.MinMilliseconds;

    /// <summary>
    /// Measures. The variants take turns within every repetition, so that whatever else the machine does, it does to all of them.
    /// </summary>
    /// <param name="model">The model with the adapter.</param>
    /// <param name="adapter">The adapter's handle.</param>
    /// <param name="batches">Where batches come from.</param>
    /// <param name="repetitions">How often to measure each variant; one more, the first, is not counted.</param>
    /// <param name="stage">Told about every repetition.</param>
    /// <param name="cancellation">Stops between two repetitions.</param>
    public static AdapterTiming Measure(
        nn.Module<Tensor, Tensor> model,
        AdapterHandle adapter,
        BatchSampler batches,
        int repetitions,
        IProgress<StepReport> stage,
        CancellationToken cancellation)
    {
        List<TimeSpan> off = [], kernels = [], twin = [], modelKernels = [], modelTwin = [];
        double largestDifference = 0;
        for (int repetition = 0; repetition <= repetitions; repetition++)
        {
            cancellation.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            (Tensor inputs, Tensor targets) = batches.Next();
            var layers = LayerInputs.Capture(model, adapter, inputs);
            bool counts = repetition > 0;

            adapter.SetEnabled(false);
            Time(off, counts, () => RunLayers(layers));
            adapter.SetEnabled(true);
            Time(kernels, counts, () => RunLayers(layers));
            double loss = Time(modelKernels, counts, () => RunModel(model, inputs, targets));
            adapter.SetImplementation(AdapterImplementation.Reference);
            Time(twin, counts, () => RunLayers(layers));
            double twinLoss = Time(modelTwin, counts, () => RunModel(model, inputs, targets));
            adapter.SetImplementation(AdapterImplementation.Fused);

            largestDifference = Math.Max(largestDifference, Math.Abs(loss - twinLoss));
            if (counts)
                stage.Report(new StepReport(repetition));
        }

        model.zero_grad();
        return new AdapterTiming(
            Durations.Of(off),
            Durations.Of(kernels),
            Durations.Of(twin),
            Durations.Of(modelKernels),
            Durations.Of(modelTwin),
            largestDifference);
    }

    private static double RunLayers(IReadOnlyList<LayerInputs> layers)
    {
        foreach (LayerInputs layer in layers)
        {
            using var scope = NewDisposeScope();
            layer.Module.call(layer.Input).backward([layer.OutputGradient]);
        }

        return 0;
    }

    private static double RunModel(nn.Module<Tensor, Tensor> model, Tensor inputs, Tensor targets)
    {
        using var scope = NewDisposeScope();
        Tensor loss = Loss.Nats(model.call(inputs), targets);
        loss.backward();
        return loss.item<float>() / Loss.NatsPerBit;
    }

    private static double Time(List<TimeSpan> timings, bool counts, Func<double> work)
    {
        long start = Stopwatch.GetTimestamp();
        double result = work();
        TimeSpan elapsed = Stopwatch.GetElapsedTime(start);
        if (counts)
            timings.Add(elapsed);
        return result;
    }
}
