using ScottPlot;
using ScottPlot.Colormaps;

namespace FineTune;

/// <summary>Draws which ranks or cores the routers give to which domain, one panel for each block of the model.</summary>
internal static class RoutingPlot
{
    /// <summary>More panels in a row would be too narrow to read.</summary>
    private const int MostPanels = 6;

    /// <summary>Above this many rows their numbers would overlap.</summary>
    private const int MostRowLabels = 32;

    private const int ColourBarWidth = 90;

    /// <summary>Draws the figure.</summary>
    /// <param name="smora">SMoRA's routers; empty when SMoRA was not trained.</param>
    /// <param name="comol">CoMoL's routers; empty when CoMoL was not trained.</param>
    public static Multiplot Draw(IReadOnlyList<RoutingTable> smora, IReadOnlyList<RoutingTable> comol)
    {
        Multiplot figure = new();
        figure.Subplots.RemoveAt(0);
        List<(int, double)> rows = [];
        AddRow(figure, rows, smora, "SMoRA", "rank", "share of the domain's selections", 1.6);
        AddRow(figure, rows, comol, "CoMoL", "core", "mean weight of the core", 1);
        figure.Layout = new RowLayout(rows, ColourBarWidth);
        return figure;
    }

    private static void AddRow(
        Multiplot figure,
        List<(int, double)> rows,
        IReadOnlyList<RoutingTable> tables,
        string method,
        string rowName,
        string scale,
        double height)
    {
        if (tables.Count == 0)
            return;

        RoutingTable[] shown = MostTelling(tables);
        ScottPlot.Range range = new(
            shown.Min(table => table.Shares.Min(row => row.Min())), shown.Max(table => table.Shares.Max(row => row.Max())));
        for (int i = 0; i < shown.Length; i++)
            figure.AddPlot(Panel(shown[i], method, rowName, range, i == shown.Length - 1 ? scale : null));
        rows.Add((shown.Length, height));
    }

    /// <summary>Of every block the layer whose router tells the domains apart most.</summary>
    private static RoutingTable[] MostTelling(IReadOnlyList<RoutingTable> tables)
    {
        RoutingTable[] ofBlocks = [.. tables
            .GroupBy(table => string.Join('.', table.Module.Split('.').Take(2)))
            .Select(block => block.MaxBy(table => table.Contrast)!)];
        int count = Math.Min(ofBlocks.Length, MostPanels);
        return [.. Enumerable.Range(0, count).Select(i => ofBlocks[i * ofBlocks.Length / count])];
    }

    private static Plot Panel(RoutingTable table, string method, string rowName, ScottPlot.Range range, string? scale)
    {
        int domains = table.Domains.Count;

        // The number of a rank means nothing by itself; in the order of the domain that likes it most, a pattern can be seen.
        int[] order = [.. Enumerable.Range(0, table.Shares.Length)
            .OrderBy(row => Favourite(table.Shares[row]))
            .ThenByDescending(row => table.Shares[row].Max() - table.Shares[row].Average())];
        double[,] values = new double[order.Length, domains];
        for (int row = 0; row < order.Length; row++)
        {
            for (int domain = 0; domain < domains; domain++)
                values[row, domain] = table.Shares[order[row]][domain];
        }

        Plot plot = PlotStyle.NewPlot($"{method}\n{table.Module}", "domain", rowName);
        plot.Axes.Title.Label.FontSize = 13;
        plot.HideGrid();
        var heatmap = plot.Add.Heatmap(values);
        heatmap.Colormap = new Viridis();
        heatmap.ManualRange = range;
        plot.Axes.Bottom.SetTicks([.. Enumerable.Range(0, domains).Select(i => (double)i)], [.. table.Domains]);
        bool labelRows = order.Length <= MostRowLabels;
        plot.Axes.Left.SetTicks(
            [.. Enumerable.Range(0, labelRows ? order.Length : 0).Select(row => (double)(order.Length - 1 - row))],
            [.. order.Take(labelRows ? order.Length : 0).Select(row => row.ToString(provider: null))]);
        plot.Axes.SetLimits(-0.5, domains - 0.5, -0.5, order.Length - 0.5);
        if (scale is not null)
        {
            var bar = plot.Add.ColorBar(heatmap);
            bar.Label = scale;
            bar.LabelStyle.FontSize = 12;
            bar.LabelStyle.Bold = false;
            bar.MinimumSize = ColourBarWidth;
            bar.MaximumSize = ColourBarWidth;
        }

        return plot;
    }

    private static int Favourite(double[] shares) => Array.IndexOf(shares, shares.Max());
}
