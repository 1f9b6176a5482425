using ScottPlot;

namespace FineTune;

/// <summary>Lays plots out in rows, each with its own height and its own number of plots.</summary>
/// <param name="rows">For each row, how many plots it has and its share of the height.</param>
/// <param name="extraForLast">Pixels that the last plot of each row is wider than the others, for a colour bar.</param>
internal sealed class RowLayout(IReadOnlyList<(int Plots, double Height)> rows, double extraForLast = 0) : IMultiplotLayout
{
    /// <inheritdoc/>
    public PixelRect[] GetSubplotRectangles(SubplotCollection subplots, PixelRect figureRect)
    {
        List<PixelRect> rectangles = [];
        double total = rows.Sum(row => row.Height);
        double top = figureRect.Top;
        foreach ((int plots, double height) in rows)
        {
            double bottom = top + (figureRect.Height * height / total);
            double width = (figureRect.Width - extraForLast) / plots;
            for (int i = 0; i < plots; i++)
            {
                double left = figureRect.Left + (i * width);
                double right = i == plots - 1 ? figureRect.Right : left + width;
                rectangles.Add(new PixelRect((float)left, (float)right, (float)bottom, (float)top));
            }

            top = bottom;
        }

        return [.. rectangles];
    }
}
