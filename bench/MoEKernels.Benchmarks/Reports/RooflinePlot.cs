using MoEKernels.Benchmarks.Workloads;
using ScottPlot;
using PlotStyle = FineTune.PlotStyle;

namespace MoEKernels.Benchmarks.Reports;

/// <summary>
/// Every row of a section under the machine's roof: operations per byte that has to move, and the rate reached. Rows whose operands fit a
/// cache may lie above the slope.
/// </summary>
internal static class RooflinePlot
{
    private const int Width = 1100;
    private const int Height = 750;

    /// <returns>Whether there was something to draw.</returns>
    public static bool Save(ReportSection section, string path)
    {
        // A gate has no operations worth the name: what is counted for it is a convention.
        ReportRow[] drawn = [.. section.Rows.Where(row => row.Case is not GateCase)];
        if (drawn.Length == 0)
            return false;
        string threads = section.Threads == 1 ? "one thread" : $"{section.Threads} threads";
        Plot plot = LogAxes.NewPlot($"Fused ops under the roof, {threads}", "operations that the formula needs, per byte that has to move", "GFLOP/s", xBase: 10);
        double left = drawn.Min(row => Intensity(row)) / 1.5, right = drawn.Max(row => Intensity(row)) * 1.5;
        double ridge = section.Peaks.Gigaflops / section.Peaks.Gigabytes;
        double[] corners = [.. new[] { left, ridge, double.Max(right, ridge * 1.5) }];
        var roof = plot.Add.ScatterLine(
            corners.Select(LogAxes.Place).ToArray(),
            corners.Select(x => LogAxes.Place(double.Min(section.Peaks.Gigaflops, x * section.Peaks.Gigabytes))).ToArray(),
            Colors.Black.WithAlpha(.6));
        roof.LineWidth = 2;
        roof.LegendText = FormattableString.Invariant($"{section.Peaks.Gigabytes:F1} GB/s, {section.Peaks.Gigaflops:F0} GFLOP/s");

        int colour = 0;
        foreach (IGrouping<string, ReportRow> op in drawn.GroupBy(row => row.Case.Op))
        {
            foreach ((string name, MarkerShape shape) in new[] { (Implementation.Fused, MarkerShape.FilledCircle), (Implementation.Torch, MarkerShape.OpenCircle) })
            {
                ReportRow[] rows = [.. op];
                var points = plot.Add.ScatterPoints(
                    rows.Select(row => LogAxes.Place(Intensity(row))).ToArray(),
                    rows.Select(row => LogAxes.Place(row.GigaflopPerSecond(row.Find(name)!))).ToArray(),
                    PlotStyle.Colour(colour));
                points.MarkerShape = shape;
                points.MarkerSize = 9;
                points.LegendText = $"{op.Key}, {name}";
            }
            colour++;
        }
        plot.ShowLegend(Alignment.LowerRight);
        plot.Axes.Margins(.03, .08);
        plot.SavePng(path, Width, Height);
        return true;
    }

    private static double Intensity(ReportRow row) => row.Case.Flops.Of(row.Pass) / row.Case.Bytes.Of(row.Pass);
}
