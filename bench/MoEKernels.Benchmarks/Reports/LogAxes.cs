using System.Globalization;
using ScottPlot;
using ScottPlot.TickGenerators;
using PlotStyle = FineTune.PlotStyle;

namespace MoEKernels.Benchmarks.Reports;

/// <summary>Plots with a logarithmic scale on both axes, which ScottPlot draws as the logarithms of its numbers.</summary>
internal static class LogAxes
{
    public static Plot NewPlot(string title, string xLabel, string yLabel, double xBase)
    {
        Plot plot = PlotStyle.NewPlot(title, xLabel, yLabel);
        plot.Axes.Bottom.TickGenerator = Ticks(xBase);
        plot.Axes.Left.TickGenerator = Ticks(10);
        return plot;
    }

    /// <summary>Where a number lies on such an axis.</summary>
    public static double Place(double value) => double.Log10(value);

    private static NumericManual Ticks(double step)
    {
        // More than any plot shows: what lies outside is not drawn.
        var ticks = new NumericManual();
        for (double exponent = -8; exponent <= 8 / double.Log10(step); exponent++)
        {
            double value = double.Pow(step, exponent);
            ticks.AddMajor(Place(value), value.ToString("0.######", CultureInfo.InvariantCulture));
        }
        return ticks;
    }
}
