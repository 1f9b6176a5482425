using MoEKernels.Benchmarks.Workloads;
using ScottPlot;
using PlotStyle = FineTune.PlotStyle;

namespace MoEKernels.Benchmarks.Reports;

/// <summary>Times over each dimension: a row of plots per op.</summary>
internal static class ScalingPlot
{
    private const int PlotWidth = 500;
    private const int PlotHeight = 380;
    private const int Columns = 3;

    public static void Save(IReadOnlyList<MeasuredSweep> sweeps, string path)
    {
        Multiplot figure = new();
        figure.Subplots.RemoveAt(0);
        foreach (MeasuredSweep sweep in sweeps)
            figure.AddPlot(Draw(sweep));
        int columns = int.Min(Columns, sweeps.Count);
        int rows = (sweeps.Count + columns - 1) / columns;
        figure.Layout = new ScottPlot.MultiplotLayouts.Grid(rows, columns);
        figure.SavePng(path, columns * PlotWidth, rows * PlotHeight);
    }

    private static Plot Draw(MeasuredSweep sweep)
    {
        Plot plot = LogAxes.NewPlot(sweep.Title, sweep.Axis, "ms", xBase: 2);
        foreach ((Pass pass, LinePattern pattern) in new[] { (Pass.Forward, LinePattern.Dashed), (Pass.ForwardBackward, LinePattern.Solid) })
        {
            var points = sweep.Points.Where(point => point.Pass == pass).ToArray();
            double[] x = [.. points.Select(point => LogAxes.Place(point.Value))];
            Add("torch", [.. points.Select(point => LogAxes.Place(point.Torch.Median))], PlotStyle.Colour(1));
            Add("fused", [.. points.Select(point => LogAxes.Place(point.Fused.Median))], PlotStyle.Colour(0));

            void Add(string name, double[] y, Color colour)
            {
                var line = plot.Add.Scatter(x, y, colour);
                line.LinePattern = pattern;
                line.LineWidth = 2;
                line.MarkerSize = 6;
                line.LegendText = $"{name}, {MarkdownReport.NameOf(pass)}";
            }
        }
        // Long enough for dashes to be seen.
        plot.Legend.SymbolWidth = 40;
        plot.ShowLegend(Alignment.UpperLeft);
        // The legend lies above the curves and not over them.
        plot.Axes.Margins(left: .05, right: .05, bottom: .1, top: .55);
        return plot;
    }
}
