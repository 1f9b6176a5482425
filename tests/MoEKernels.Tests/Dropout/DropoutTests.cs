namespace MoEKernels.Tests;

public sealed class DropoutTests
{
    // Known answers of Philox4x32-10 for a zero key and counter: 6627e8d5 e169c58d bc57ac4c 9b00dbd8 (Random123's
    // kat_vectors).
    private static readonly uint[] ZeroBlock = [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8];

    [Test]
    public void Mask_OfSeedZero_FollowsTheKnownAnswers()
    {
        foreach (double p in (double[])[0.1, 0.39, 0.40, 0.61, 0.73, 0.74, 0.88, 0.89])
        {
            double[] mask = new double[4];
            Dropout.Mask(mask, 2, 2, p, seed: 0);
            double[] expected = Array.ConvertAll(ZeroBlock, word => Math.ScaleB(word >> 8, -24) >= p ? 1 / (1 - p) : 0);
            Assert.That(mask, Is.EqualTo(expected).Within(1e-15), $"p = {p}");
        }
    }

    [Test]
    public void Mask_EveryType_SaysTheSame()
    {
        float[] single = new float[30];
        double[] wide = new double[30];
        Half[] half = new Half[30];
        BFloat16[] brain = new BFloat16[30];
        Dropout.Mask(single, 5, 6, 0.5, 7, 3);
        Dropout.Mask(wide, 5, 6, 0.5, 7, 3);
        Dropout.Mask(half, 5, 6, 0.5, 7, 3);
        Dropout.Mask(brain, 5, 6, 0.5, 7, 3);

        Assert.Multiple(() =>
        {
            Assert.That(wide, Is.All.AnyOf(0d, 2d).And.Some.EqualTo(0d).And.Some.EqualTo(2d));
            Assert.That(TestData.ToDouble<float>(single), Is.EqualTo(wide));
            Assert.That(TestData.ToDouble<Half>(half), Is.EqualTo(wide));
            Assert.That(TestData.ToDouble<BFloat16>(brain), Is.EqualTo(wide));
        });
    }

    [Test]
    public void Mask_DependsOnSeedOffsetAndStream()
    {
        float[] Mask(ulong seed, ulong offset, DropoutStream stream)
        {
            float[] mask = new float[256];
            Dropout.Mask(mask, 16, 16, 0.5, seed, offset, stream);
            return mask;
        }

        float[] first = Mask(1, 0, DropoutStream.Input);
        Assert.Multiple(() =>
        {
            Assert.That(Mask(1, 0, DropoutStream.Input), Is.EqualTo(first));
            Assert.That(Mask(2, 0, DropoutStream.Input), Is.Not.EqualTo(first));
            Assert.That(Mask(1UL << 40, 0, DropoutStream.Input), Is.Not.EqualTo(first));
            Assert.That(Mask(1, 1, DropoutStream.Input), Is.Not.EqualTo(first));
            Assert.That(Mask(1, 0, DropoutStream.Core), Is.Not.EqualTo(first));
        });
    }

    [Test]
    public void Mask_OfProbabilityZero_KeepsEverything()
    {
        float[] mask = TestData.Poison<float>(12);
        Dropout.Mask(mask, 3, 4, 0, 1);
        Assert.That(mask, Is.All.EqualTo(1f));
    }

    [Test]
    public void Mask_WrongArgument_IsNamed() => Assert.Multiple(() =>
    {
        Assert.That(() => Dropout.Mask(new float[4], -1, 2, 0.5, 1),
            Throws.InstanceOf<ArgumentException>().With.Message.Contains("rows: got -1"));
        Assert.That(() => Dropout.Mask(new float[4], 2, 0, 0.5, 1),
            Throws.InstanceOf<ArgumentException>().With.Message.Contains("columns: got 0"));
        Assert.That(() => Dropout.Mask(new float[4], 2, 2, 1, 1),
            Throws.InstanceOf<ArgumentException>().With.Message.Contains("p: got 1"));
        Assert.That(() => Dropout.Mask(new float[4], 2, 2, double.NaN, 1),
            Throws.InstanceOf<ArgumentException>().With.Message.Contains("p: got NaN"));
        Assert.That(() => Dropout.Mask(new float[4], 2, 2, 0.5, 1, 0, (DropoutStream)2),
            Throws.InstanceOf<ArgumentException>().With.Message.Contains("stream: got 2"));
        Assert.That(() => Dropout.Mask(new float[5], 2, 2, 0.5, 1),
            Throws.ArgumentException.With.Message.Contains("mask: got 5 elements, expected 4"));
        Assert.That(() => Dropout.Mask(new int[4], 2, 2, 0.5, 1),
            Throws.ArgumentException.With.Message.Contains("mask"));
        Assert.That(() => Dropout.Mask(new float[4], long.MaxValue, long.MaxValue, 0.5, 1),
            Throws.ArgumentException.With.Message.Contains("mask"));
        Assert.That(() => Dropout.Mask(MoeContext.Default, new DropoutArgs { T = 1, D = 1 }, 0),
            Throws.ArgumentException.With.Message.Contains("mask"));
        Assert.That(() => Dropout.Mask(null!, default, 0), Throws.ArgumentNullException.With.Message.Contains(
            "context"));
    });
}
