using ScottPlot;

namespace FineTune;

/// <summary>Draws how the losses fell: the base and the adapters while training, then each domain on held-out text.</summary>
internal static class LossPlot
{
    private const string LossLabel = "loss (bits per byte)";

    /// <summary>Draws the figure.</summary>
    /// <param name="domains">The names of the domains.</param>
    /// <param name="pretraining">The history of the base.</param>
    /// <param name="adapters">Name and history of each adapter.</param>
    public static Multiplot Draw(
        IReadOnlyList<string> domains,
        TrainingHistory pretraining,
        IReadOnlyList<(string Name, TrainingHistory History)> adapters)
    {
        Multiplot figure = new();
        figure.Subplots.RemoveAt(0);
        figure.AddPlot(Pretraining(domains, pretraining));
        figure.AddPlot(AdapterTraining(adapters));
        foreach (string domain in domains)
            figure.AddPlot(HeldOut(domain, adapters));
        figure.Layout = new RowLayout([(2, 1), (domains.Count, 1)]);
        return figure;
    }

    private static Plot Pretraining(IReadOnlyList<string> domains, TrainingHistory history)
    {
        Plot plot = PlotStyle.NewPlot("Pre-training the base", "step", LossLabel);
        var batches = plot.Add.ScatterLine(
            history.Batches.Select(batch => (double)batch.Step).ToArray(),
            history.Batches.Select(batch => batch.BitsPerByte).ToArray(),
            Colors.Black.WithAlpha(.2));
        batches.LegendText = "training batch";
        for (int i = 0; i < domains.Count; i++)
            AddHeldOut(plot, history, domains[i], $"held-out {domains[i]}", i);
        PlotStyle.ShowLegend(plot, domains.Count + 1);
        return plot;
    }

    private static Plot AdapterTraining(IReadOnlyList<(string Name, TrainingHistory History)> adapters)
    {
        Plot plot = PlotStyle.NewPlot("Training the adapters, base frozen", "step", $"{LossLabel}, smoothed");
        for (int i = 0; i < adapters.Count; i++)
        {
            (string name, TrainingHistory history) = adapters[i];
            var line = plot.Add.ScatterLine(
                history.Batches.Select(batch => (double)batch.Step).ToArray(),
                Smooth(history.Batches.Select(batch => batch.BitsPerByte)),
                PlotStyle.Colour(i));
            line.LineWidth = 2;
            line.LinePattern = PlotStyle.Pattern(i);
            line.LegendText = name;
        }

        PlotStyle.ShowLegend(plot, adapters.Count);
        return plot;
    }

    private static Plot HeldOut(string domain, IReadOnlyList<(string Name, TrainingHistory History)> adapters)
    {
        Plot plot = PlotStyle.NewPlot($"Held-out text: {domain}", "adapter step", LossLabel);
        double before = adapters[0].History.HeldOut[0].BitsPerByte[domain];
        var frozen = plot.Add.HorizontalLine(before, 1.5f, Colors.Black.WithAlpha(.5), LinePattern.Dashed);
        frozen.LegendText = "frozen base";
        for (int i = 0; i < adapters.Count; i++)
            AddHeldOut(plot, adapters[i].History, domain, adapters[i].Name, i);
        PlotStyle.ShowLegend(plot, adapters.Count + 1);
        return plot;
    }

    private static void AddHeldOut(Plot plot, TrainingHistory history, string domain, string name, int number)
    {
        var line = plot.Add.Scatter(
            history.HeldOut.Select(loss => (double)loss.Step).ToArray(),
            history.HeldOut.Select(loss => loss.BitsPerByte[domain]).ToArray(),
            PlotStyle.Colour(number));
        line.LineWidth = 2;
        line.LinePattern = PlotStyle.Pattern(number);
        line.MarkerSize = 6;
        line.LegendText = name;
    }

    /// <summary>An exponential moving average over about twenty batches, without the usual pull towards 0 at the start.</summary>
    private static double[] Smooth(IEnumerable<double> values)
    {
        const double keep = 0.95;
        double sum = 0;
        double weight = 0;
        List<double> smoothed = [];
        foreach (double value in values)
        {
            sum = (keep * sum) + ((1 - keep) * value);
            weight = (keep * weight) + (1 - keep);
            smoothed.Add(sum / weight);
        }

        return [.. smoothed];
    }
}
