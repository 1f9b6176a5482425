using static TorchSharp.torch;

namespace Llama.Tests;

public sealed class RotaryTests
{
    // Llama 3.1's numbers; the three regions worked out by hand from the formula.
    private static readonly Llama3Scaling Llama31 = new(Factor: 8, LowFrequencyFactor: 1, HighFrequencyFactor: 4, OriginalPositions: 8192);

    [Test]
    public void Llama3_ShortWave_Stays() => Assert.That(Llama31.Scale(1), Is.EqualTo(1));

    [Test]
    public void Llama3_LongWave_IsStretched() => Assert.That(Llama31.Scale(1e-4), Is.EqualTo(1.25e-5).Within(1e-18));

    [TestCase(2.5, 0.5)]
    [TestCase(1.0, 0.0)]
    [TestCase(4.0, 1.0)]
    public void Llama3_WaveBetween_IsBlended(double timesInContext, double kept)
    {
        double frequency = 2 * Math.PI * timesInContext / 8192;

        Assert.That(Llama31.Scale(frequency), Is.EqualTo((kept * frequency) + ((1 - kept) * frequency / 8)).Within(1e-15));
    }

    [Test]
    public void Linear_EveryWave_IsStretched() => Assert.That(new LinearScaling(4).Scale(0.5), Is.EqualTo(0.125));

    [Test]
    public void Frequencies_OfFourChannels_AreOneAndOneOverTheRoot() =>
        Assert.That(Rotary.Frequencies(Config(headWidth: 4)), Is.EqualTo(new[] { 1, 0.01 }).Within(1e-15));

    [Test]
    public void Turn_FirstPosition_ChangesNothing()
    {
        using var scope = NewDisposeScope();
        Tensor x = arange(8, dtype: float32).view(1, 1, 1, 8);

        Tensor turned = new Rotary(Config(headWidth: 8)).At(0, 1, x).Turn(x);

        Assert.That(turned.data<float>().ToArray(), Is.EqualTo(x.data<float>().ToArray()));
    }

    [Test]
    public void Turn_PairsAreHalfAHeadApart()
    {
        using var scope = NewDisposeScope();
        Tensor x = tensor(new float[] { 1, 0, 0, 0 }).view(1, 1, 1, 4);

        Tensor turned = new Rotary(Config(headWidth: 4)).At(3, 1, x).Turn(x);

        Assert.That(turned.data<float>().ToArray(), Is.EqualTo(new[] { (float)Math.Cos(3), 0, (float)Math.Sin(3), 0 }).Within(1e-6));
    }

    [Test]
    public void Turn_ProductOfTwoPositions_DependsOnTheirDistanceOnly()
    {
        using var scope = NewDisposeScope();
        Rotary rotary = new(Config(headWidth: 16));
        manual_seed(1);
        Tensor q = randn(1, 1, 1, 16);
        Tensor k = randn(1, 1, 1, 16);

        float near = (rotary.At(7, 1, q).Turn(q) * rotary.At(4, 1, k).Turn(k)).sum().item<float>();
        float far = (rotary.At(107, 1, q).Turn(q) * rotary.At(104, 1, k).Turn(k)).sum().item<float>();

        Assert.That(far, Is.EqualTo(near).Within(1e-4));
    }

    private static ModelConfig Config(int headWidth) => new()
    {
        Family = ModelFamily.Llama,
        Vocabulary = 8,
        Width = headWidth,
        FeedForwardWidth = 8,
        Layers = 1,
        Heads = 1,
        KeyValueHeads = 1,
        HeadWidth = headWidth,
        NormEpsilon = 1e-6,
        RotaryBase = 10000,
        MaxPositions = 128,
        TiedEmbeddings = true,
        QueryKeyValueBias = false,
        OutputBias = false,
        FeedForwardBias = false,
    };
}
