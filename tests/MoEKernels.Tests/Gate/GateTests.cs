namespace MoEKernels.Tests;

public sealed class GateTests
{
    private static readonly GateOptions[] Variants =
    [
        new(),
        new() { Normalize = GateNormalize.SumToOne },
        new() { Normalize = GateNormalize.SumToK, Temperature = 0.7, WeightScale = 2.5 },
        new() { Select = GateSelect.All },
        new() { Score = GateScore.Sigmoid, BiasMode = BiasMode.Weight, Normalize = GateNormalize.SumToK },
        new() { Score = GateScore.Sigmoid, BiasMode = BiasMode.Selection, Normalize = GateNormalize.SumToOne,
        Eps = 1e-3, WeightScale = 2.5 },
        new() { Score = GateScore.Identity },
    ];

    private static readonly (int T, int E, int K)[] Shapes = [(1, 1, 1), (3, 5, 2), (17, 64, 8), (33, 7, 7),
        (2, 300, 11), (0, 4, 2)];

    [Test]
    public void Forward_Float_MatchesTheOracle([ValueSource(nameof(Variants))] GateOptions options,
        [ValueSource(nameof(Shapes))] (int, int, int) shape) =>
        CheckForward<float, float>(options, shape, 1e-5);

    [Test]
    public void Forward_Double_MatchesTheOracle([ValueSource(nameof(Variants))] GateOptions options,
        [ValueSource(nameof(Shapes))] (int, int, int) shape) =>
        CheckForward<double, double>(options, shape, 1e-13);

    [Test]
    public void Forward_Half_MatchesTheOracle([ValueSource(nameof(Variants))] GateOptions options) =>
        CheckForward<Half, float>(options, (17, 9, 3), 1e-5);

    [Test]
    public void Forward_BFloat16_MatchesTheOracle([ValueSource(nameof(Variants))] GateOptions options) =>
        CheckForward<BFloat16, float>(options, (17, 9, 3), 1e-5);

    // The router of the SMoRA example in arXiv 2501.15103's notation: z = W_r x, bias b.
    [Test]
    public void Forward_SmoraVector_GivesTheKnownGates()
    {
        double[] logits = [0, -1.1, 1];
        double[] bias = [0, 0.01, -0.02];
        int[] ids = new int[2];
        double[] weights = new double[2];
        GateOptions options = new()
        {
            Score = GateScore.Sigmoid,
            BiasMode = BiasMode.Weight,
            Normalize = GateNormalize.SumToK
        };

        Gate.Forward(new GateShape(1, 3, 2), options, logits, ids, weights, bias);

        Assert.Multiple(() =>
        {
            Assert.That(ids, Is.EqualTo(new[] { 2, 0 }));
            Assert.That(weights, Is.EqualTo(new[] { 1.1742761105, 0.8257238895 }).Within(1e-9));
        });
    }

    [Test]
    public void Forward_EqualScores_PreferTheLowerId()
    {
        float[] logits = [1, 2, 2, -0f, 0f, 2];
        int[] ids = new int[5];
        float[] weights = new float[5];

        Gate.Forward(new GateShape(1, 6, 5), new GateOptions { Score = GateScore.Identity }, logits, ids, weights);

        Assert.That(ids, Is.EqualTo(new[] { 1, 2, 5, 0, 3 }));
    }

    [Test]
    public void Forward_NaN_NeverWinsAndWeighsNothing()
    {
        float[] logits = [float.NaN, 1, float.NegativeInfinity, float.NaN, float.NaN, float.NaN];
        int[] ids = new int[4];
        float[] weights = TestData.Poison<float>(4);
        float[] lse = TestData.Poison<float>(2);

        Gate.Forward(new GateShape(2, 3, 2), default, logits, ids, weights, lse: lse);

        Assert.Multiple(() =>
        {
            Assert.That(ids[0], Is.EqualTo(1));
            Assert.That(ids[..2], Is.Unique);
            Assert.That(ids[2..], Is.Unique);
            Assert.That(ids, Is.All.InRange(0, 2));
            Assert.That(weights, Is.EqualTo(new[] { 1f, 0, 0, 0 }));
            Assert.That(lse, Is.EqualTo(new[] { 1f, float.NegativeInfinity }));
        });
    }

    [Test]
    public void Forward_StrictWithNaN_ThrowsAndWritesNothing()
    {
        float[] weights = TestData.Poison<float>(1);

        Assert.That(
            () => Gate.Forward(new GateShape(1, 2, 1), new GateOptions { Flags = CallFlags.Strict },
            new[] { 1f, float.NaN }, new int[1], weights),
            Throws.TypeOf<MoeNumericException>());
        Assert.That(weights[0], Is.NaN);
    }

    [Test]
    public void Counts_AreAHistogramAndCanAccumulate()
    {
        const int Tokens = 50, Experts = 6, Kept = 2;
        float[] logits = TestData.To<float>(TestData.Uniform(3, Tokens * Experts));
        int[] ids = new int[Tokens * Kept];
        int[] counts = [9, 9, 9, 9, 9, 9];
        GateShape shape = new(Tokens, Experts, Kept);

        Gate.Forward(shape, default, logits, ids, new float[ids.Length], counts: counts);
        int[] expected = [.. Enumerable.Range(0, Experts).Select(e => ids.Count(id => id == e))];
        Assert.That(counts, Is.EqualTo(expected));

        Gate.Forward(shape, new GateOptions { Flags = CallFlags.AccumulateCounts }, logits, ids, new float[ids.Length],
            counts: counts);
        Assert.That(counts, Is.EqualTo(expected.Select(count => 2 * count)));
    }

    [Test]
    public void Backward_Double_MatchesFiniteDifferences([ValueSource(nameof(Variants))] GateOptions options)
    {
        const int Tokens = 4, Experts = 6, Kept = 3;
        GateShape shape = new(Tokens, Experts, options.Select == GateSelect.All ? 0 : Kept);
        int columns = options.Select == GateSelect.All ? Experts : Kept;
        double[] logits = TestData.Uniform(11, Tokens * Experts);
        double[] bias = options.BiasMode == BiasMode.None ? [] : TestData.Uniform(12, Experts);
        double[] dWeights = TestData.Uniform(13, Tokens * columns);
        double[] dLse = TestData.Uniform(14, Tokens);
        int[] ids = options.Select == GateSelect.All ? [] : new int[Tokens * Kept];

        double Loss(double[] z)
        {
            double[] weights = new double[Tokens * columns];
            double[] lse = new double[Tokens];
            Gate.Forward(shape, options, z, ids, weights, bias, lse: lse);
            return FiniteDifference.Dot(weights, dWeights) + FiniteDifference.Dot(lse, dLse);
        }

        double[] expected = FiniteDifference.Gradient(logits, Loss);
        _ = Loss(logits);
        double[] dLogits = TestData.Poison<double>(logits.Length);
        Gate.Backward(shape, options, logits, ids, dWeights, dLogits, bias, dLse);
        TestData.AssertClose(dLogits, expected, 1e-7, "dLogits");

        // Adding the same once more doubles it.
        Gate.Backward(shape, options with { Flags = CallFlags.AccumulateOutput }, logits, ids, dWeights, dLogits, bias,
            dLse);
        TestData.AssertClose(dLogits, Array.ConvertAll(expected, value => 2 * value), 1e-7, "2 dLogits");
    }

    [Test]
    public void RawForm_WithStrides_GivesWhatTheSpansGive()
    {
        const int Tokens = 5, Experts = 4, Kept = 2, Stride = 7;
        float[] dense = TestData.To<float>(TestData.Uniform(21, Tokens * Experts));
        float[] strided = TestData.Poison<float>(Tokens * Stride);
        for (int t = 0; t < Tokens; t++)
            dense.AsSpan(t * Experts, Experts).CopyTo(strided.AsSpan(t * Stride));
        int[] expectedIds = new int[Tokens * Kept];
        float[] expected = new float[Tokens * Kept];
        Gate.Forward(new GateShape(Tokens, Experts, Kept), default, dense, expectedIds, expected);

        int[] ids = new int[Tokens * Kept];
        float[] weights = new float[Tokens * Kept];
        RunRaw(strided, Stride, ids, weights);

        Assert.Multiple(() =>
        {
            Assert.That(ids, Is.EqualTo(expectedIds));
            Assert.That(weights, Is.EqualTo(expected));
        });

        static unsafe void RunRaw(float[] logits, int stride, int[] ids, float[] weights)
        {
            fixed (float* logitsPointer = logits, weightsPointer = weights)
            fixed (int* idsPointer = ids)
            {
                GateArgs args = new()
                {
                    Shape = new GateShape(Tokens, Experts, Kept),
                    LogitsStride = stride,
                    Logits = (nint)logitsPointer,
                    Ids = (nint)idsPointer,
                    Weights = (nint)weightsPointer,
                };
                long bytes = Gate.ForwardWorkspace(MoeContext.Default, args);
                fixed (byte* workspace = new byte[bytes + 1])
                    Gate.Forward(MoeContext.Default, args, (nint)workspace, bytes, 0);
            }
        }
    }

    [Test]
    public void UpdateBias_MovesTowardsTheMeanOrTheTarget()
    {
        float[] bias = [0, 0, 0, 1];
        Gate.UpdateBias([4, 0, 2, 2], bias, 0.5);
        Assert.That(bias, Is.EqualTo(new[] { -0.5f, 0.5f, 0, 1 }));

        double[] wide = [0, 0, 0];
        Gate.UpdateBias([4, 3, 2], wide, 0.25, target: 3);
        Assert.That(wide, Is.EqualTo(new[] { -0.25, 0, 0.25 }));
    }

    private static void CheckForward<T, TAcc>(GateOptions options, (int T, int E, int K) size, double tolerance)
        where T : unmanaged
        where TAcc : unmanaged
    {
        GateShape shape = new(size.T, size.E, options.Select == GateSelect.All ? 0 : size.K);
        int columns = options.Select == GateSelect.All ? size.E : size.K;
        T[] logits = TestData.To<T>(TestData.Uniform(size.T * 31 + size.E, (long)size.T * size.E));
        double[] exact = TestData.ToDouble<T>(logits);
        double[] bias = options.BiasMode == BiasMode.None ? [] : TestData.Rounded<TAcc>(TestData.Uniform(5, size.E));
        int[] ids = options.Select == GateSelect.All ? [] : new int[size.T * size.K];
        TAcc[] weights = TestData.Poison<TAcc>((long)size.T * columns);
        TAcc[] lse = TestData.Poison<TAcc>(size.T);

        Gate.Forward(shape, options, logits, ids, weights, TestData.To<TAcc>(bias), lse: lse);

        double[] got = TestData.ToDouble<TAcc>(weights);
        for (int t = 0; t < size.T; t++)
        {
            var row = GateOracle.Row(exact.AsSpan(t * size.E, size.E), size.K, options, bias);
            if (options.Select == GateSelect.TopK)
                Assert.That(ids.AsSpan(t * size.K, size.K).ToArray(), Is.EqualTo(row.Ids), $"ids of token {t}");
            TestData.AssertClose(got.AsSpan(t * columns, columns).ToArray(), row.Weights, tolerance,
                $"weights of token {t}");
            Assert.That(TestData.ToDouble<TAcc>(lse)[t], Is.EqualTo(row.Lse).Within(tolerance * 10),
                $"lse of token {t}");
        }
    }
}
