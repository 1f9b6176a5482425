using ScottPlot;

namespace FineTune;

/// <summary>What all plots share: the font that comes with the sample, colours, sizes.</summary>
internal static class PlotStyle
{
    private const string Font = "Open Sans";

    /// <summary>Pixels left of a plot, so that its label keeps clear of its numbers.</summary>
    private const int LeftSpace = 72;

    /// <summary>The colours of lines, distinguishable in the common forms of colour blindness (Okabe and Ito 2008).</summary>
    private static readonly Color[] Colours =
    [
        Color.FromHex("#0072B2"), Color.FromHex("#D55E00"), Color.FromHex("#009E73"), Color.FromHex("#CC79A7"),
        Color.FromHex("#E69F00"), Color.FromHex("#56B4E9"), Color.FromHex("#000000"),
    ];

    private const int FigureWidth = 1500;
    private const int FigureHeight = 950;

    static PlotStyle()
    {
        // Without a font on the machine every label would vanish without an error.
        string file = Path.Combine(AppContext.BaseDirectory, "Fonts", "OpenSans-Regular.ttf");
        Fonts.AddFontFile(Font, file, bold: false, italic: false);
        Fonts.Default = Font;
    }

    /// <summary>Lines beyond the colours have them again, with another pattern.</summary>
    private static readonly LinePattern[] Patterns = [LinePattern.Solid, LinePattern.Dashed, LinePattern.Dotted];

    /// <summary>Above this many lines a legend of normal size would cover the plot.</summary>
    private const int MostLinesInNormalLegend = 6;

    /// <summary>The colour of the line with a number.</summary>
    public static Color Colour(int index) => Colours[index % Colours.Length];

    /// <summary>The pattern of the line with a number; colour and pattern together are its own up to 21 lines.</summary>
    public static LinePattern Pattern(int index) => Patterns[index / Colours.Length % Patterns.Length];

    /// <summary>Shows which line is which, in the corner that falling losses leave free.</summary>
    /// <param name="plot">The plot.</param>
    /// <param name="lines">How many lines it has.</param>
    public static void ShowLegend(Plot plot, int lines)
    {
        if (lines > MostLinesInNormalLegend)
        {
            plot.Legend.FontSize = 10;
            plot.Legend.InterItemPadding = new PixelPadding(2, 2, 0, 0);
            plot.Legend.BackgroundColor = Colors.White.WithAlpha(.8);
        }

        plot.ShowLegend(Alignment.UpperRight);
    }

    /// <summary>A plot with title and axis labels in the sample's font.</summary>
    public static Plot NewPlot(string title, string xLabel, string yLabel)
    {
        Plot plot = new();
        plot.Font.Set(Font);
        plot.Title(title, size: 15);
        plot.XLabel(xLabel, size: 13);
        plot.YLabel(yLabel, size: 13);
        plot.Axes.Title.Label.Bold = false;
        plot.Axes.Bottom.Label.Bold = false;
        plot.Axes.Left.Label.Bold = false;
        plot.Axes.Left.MinimumSize = LeftSpace;
        plot.Grid.MajorLineColor = Colors.Black.WithAlpha(.08);
        plot.Legend.FontName = Font;
        plot.Legend.FontSize = 12;
        plot.Legend.ShadowColor = Colors.Transparent;
        plot.Legend.OutlineColor = Colors.Black.WithAlpha(.2);
        return plot;
    }

    /// <summary>Writes a figure as PNG.</summary>
    public static void Save(Multiplot figure, string path) => figure.SavePng(path, FigureWidth, FigureHeight);
}
