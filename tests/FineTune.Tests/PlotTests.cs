using ScottPlot;

using SkiaSharp;

namespace FineTune.Tests;

/// <summary>Where no font is found, plots are drawn without their text and without an error.</summary>
public sealed class PlotTests
{
    private const int Width = 900;
    private const int Height = 600;

    [Test]
    public void LossPlot_Labels_AreDrawn()
    {
        using SKBitmap image = Render(LossPlot.Draw(["one", "two"], History(), [("LoRA", History()), ("SMoRA", History())]));

        // Title, axis label and numbers of the first panel.
        AssertInk(image, new SKRectI(60, 5, (Width / 2) - 10, 38), "title");
        AssertInk(image, new SKRectI(0, 60, 24, (Height / 2) - 60), "label of the left axis");
        AssertInk(image, new SKRectI(60, (Height / 2) - 24, (Width / 2) - 10, Height / 2), "label of the bottom axis");
    }

    [Test]
    public void LossPlot_TenAdapters_EachHasALineOfItsOwn()
    {
        var looks = Enumerable.Range(0, 10).Select(i => (PlotStyle.Colour(i), PlotStyle.Pattern(i))).ToList();
        Assert.That(looks, Is.Unique);

        using SKBitmap image = Render(LossPlot.Draw(["one", "two"], History(), [.. Enumerable.Range(0, 10).Select(i => ($"adapter {i}", History()))]));

        AssertInk(image, new SKRectI(Width - 120, (Height / 2) + 40, Width - 20, Height - 100), "legend");
    }

    [Test]
    public void RoutingPlot_Labels_AreDrawn()
    {
        RoutingTable[] smora = [Table("blocks.0.up"), Table("blocks.1.up")];
        RoutingTable[] comol = [Table("blocks.0.down"), Table("blocks.1.down")];

        using SKBitmap image = Render(RoutingPlot.Draw(smora, comol));

        AssertInk(image, new SKRectI(60, 5, 300, 38), "title");
        AssertInk(image, new SKRectI(0, 60, 24, 300), "label of the left axis");
        AssertInk(image, new SKRectI(Width - 24, 60, Width, 300), "label of the colour bar");
    }

    [Test]
    public void RoutingPlot_OnlyOneMethod_IsDrawn()
    {
        using SKBitmap image = Render(RoutingPlot.Draw([], [Table("blocks.0.down")]));

        AssertInk(image, new SKRectI(60, 5, Width - 100, 38), "title");
    }

    private static void AssertInk(SKBitmap image, SKRectI area, string what)
    {
        int dark = 0;
        for (int y = area.Top; y < area.Bottom; y++)
        {
            for (int x = area.Left; x < area.Right; x++)
            {
                SKColor pixel = image.GetPixel(x, y);
                if (pixel.Red + pixel.Green + pixel.Blue < 3 * 128)
                    dark++;
            }
        }

        Assert.That(dark, Is.GreaterThan(30), $"dark pixels where the {what} should be");
    }

    private static SKBitmap Render(Multiplot figure)
    {
        SKBitmap bitmap = new(Width, Height);
        using SKCanvas canvas = new(bitmap);
        canvas.Clear(SKColors.White);
        figure.Render(canvas, new PixelRect(0, Width, Height, 0));
        return bitmap;
    }

    private static TrainingHistory History() => new(
        [.. Enumerable.Range(1, 20).Select(step => new BatchLoss(step, 5.0 / step))],
        [.. Enumerable.Range(0, 3).Select(look => new HeldOutLoss(look * 10, new Dictionary<string, double> { ["one"] = 5 - look, ["two"] = 4 - look }))],
        Durations.Of([TimeSpan.FromMilliseconds(1)]));

    private static RoutingTable Table(string module) =>
        new(module, ["one", "two"], [[0.7, 0.2], [0.2, 0.2], [0.1, 0.6]]);
}
