namespace MoEKernels.Tests;

public sealed class RankLoraTests
{
    private static readonly RankLoraOptions Smora = RankLoraOptions.Smora(alpha: 4, k: 2);

    private static readonly RankLoraOptions[] Variants =
    [
        Smora,
        Smora with { BiasMode = BiasMode.Selection, Normalize = GateNormalize.SumToOne, Eps = 1e-3, Temperature = 0.7 },
        Smora with { RankPartition = 2 },
        Smora with { BLayout = BLayout.RankByOut, DropoutP = 0.25, DropoutSeed = 99, DropoutOffset = 5 },
        new() { Scale = 1.5, Score = GateScore.Softmax, Normalize = GateNormalize.SumToOne },
        new() { Scale = 0.5, Gate = RankGate.Caller },
        new() { Scale = 2, Gate = RankGate.ActivationSigned, BiasMode = BiasMode.Selection },
        new() { Scale = 2, Gate = RankGate.ActivationAbsolute },
        new() { Scale = 2, Gate = RankGate.ActivationSoftmax, Eps = 1e-6, Temperature = 0.5 },
        new() { Scale = 2, Gate = RankGate.ActivationSoftmax, Eps = 1e-6, Temperature = 0.5, Threshold = 0.2,
        Normalize = GateNormalize.SumToOne },
    ];

    private static readonly (int T, int DIn, int DOut, int R, int K)[] Shapes = [(1, 1, 1, 2, 1), (5, 7, 3, 6, 2),
        (70, 33, 65, 16, 5), (3, 130, 9, 8, 8), (0, 4, 4, 4, 2)];

    [Test]
    public void Forward_Float_MatchesTheOracle([ValueSource(nameof(Variants))] RankLoraOptions options,
        [ValueSource(nameof(Shapes))] (int, int, int, int, int) shape) =>
        CheckForward<float, float, float>(options, shape, 1e-5);

    [Test]
    public void Forward_Double_MatchesTheOracle([ValueSource(nameof(Variants))] RankLoraOptions options,
        [ValueSource(nameof(Shapes))] (int, int, int, int, int) shape) =>
        CheckForward<double, double, double>(options, shape, 1e-12);

    [Test]
    public void Forward_Half_MatchesTheOracle([ValueSource(nameof(Variants))] RankLoraOptions options) =>
        CheckForward<Half, Half, float>(options, (9, 17, 5, 6, 2), 1e-3);

    [Test]
    public void Forward_BFloat16_MatchesTheOracle([ValueSource(nameof(Variants))] RankLoraOptions options) =>
        CheckForward<BFloat16, BFloat16, float>(options, (9, 17, 5, 6, 2), 8e-3);

    [Test]
    public void Forward_MixedBFloat16_MatchesTheOracle([ValueSource(nameof(Variants))] RankLoraOptions options) =>
        CheckForward<BFloat16, float, float>(options, (9, 17, 5, 6, 2), 8e-3);

    [Test]
    public void Forward_MixedHalf_MatchesTheOracle() => CheckForward<Half, float, float>(Smora, (9, 17, 5, 6, 2), 1e-3);

    // d_in = 2, r = 3, d_out = 2, k = 2, alpha = 4; numbers worked out by hand from the formulas of SMoRA (arXiv
    // 2501.15103).
    [Test]
    public void SmoraVector_GivesTheKnownOutputsAndGradients()
    {
        double[] x = [1, -2];
        double[] a = [1, 0, 0.5, 0.5, 0, -1];
        double[] b = [1, 2, 3, 0, -1, 1];
        double[] wr = [0.2, 0.1, -0.3, 0.4, 0, -0.5];
        double[] bias = [0, 0.01, -0.02];
        double[] y = new double[2], gates = new double[2], u = new double[2], logits = new double[3];
        int[] ids = new int[2];
        RankLoraShape shape = new(1, 2, 2, 3, 2);

        RankLora.Forward(shape, Smora, x, a, b, y, ids, gates, wr, bias, u: u, gateLogits: logits);
        Assert.Multiple(() =>
        {
            Assert.That(ids, Is.EqualTo(new[] { 2, 0 }));
            Assert.That(gates, Is.EqualTo(new[] { 1.1742761105, 0.8257238895 }).Within(1e-9));
            Assert.That(u, Is.EqualTo(new[] { 2d, 1 }).Within(1e-12));
            Assert.That(y, Is.EqualTo(new[] { 15.7427611047, 4.6971044419 }).Within(1e-9));
        });

        double[] dx = new double[2], dA = TestData.Poison<double>(6), dB = TestData.Poison<double>(6),
            dWr = TestData.Poison<double>(6);
        RankLora.Backward(shape, Smora, [1, 1], x, a, b, ids, gates, u, wr, bias, gateLogits: logits, dx: dx, dA: dA,
            dB: dB, dWr: dWr);
        Assert.Multiple(() =>
        {
            Assert.That(dx, Is.EqualTo(new[] { 0.9727082929, -10.6719561849 }).Within(1e-9));
            Assert.That(dA, Is.EqualTo(new[] { 1.6514477791, -3.3028955581, 0, 0, 9.3942088837,
                -18.7884177675 }).Within(1e-9));
            Assert.That(dB, Is.EqualTo(new[] { 1.6514477791, 0, 4.6971044419, 1.6514477791, 0, 4.6971044419 }).Within(
                1e-9));
            Assert.That(dWr, Is.EqualTo(new[] { -3.3936974306, 6.7873948612, 0, 0, 1.8767551162,
                -3.7535102323 }).Within(1e-9));
        });
    }

    // Every variant; once more with a router input of its own where something reads one.
    private static IEnumerable<object[]> VariantsWithRouterInputs()
    {
        foreach (RankLoraOptions options in Variants)
        {
            yield return [options, false];
            if (options.Gate == RankGate.Router)
                yield return [options, true];
        }
    }

    [TestCaseSource(nameof(VariantsWithRouterInputs))]
    public void Backward_Double_MatchesFiniteDifferences(RankLoraOptions options, bool ownRouterInput)
    {
        Case<double, double, double> given = new(options, (4, 5, 3, 6, 2), ownRouterInput);
        double[] dy = TestData.Uniform(77, given.Y.Length);
        given.Forward();

        double[] dx = TestData.Poison<double>(given.X.Length), dA = TestData.Poison<double>(given.A.Length),
            dB = TestData.Poison<double>(given.B.Length);
        double[] dWr = TestData.Poison<double>(given.Wr.Length),
            dRouterInput = TestData.Poison<double>(given.RouterInput.Length);
        double[] dGates = TestData.Poison<double>(given.Gates.Length);
        RankLora.Backward(given.Shape, options, dy, given.X, given.A, given.B, given.Ids, given.Gates, given.U,
            given.Wr, given.Bias,
            given.RouterInput, given.GateLogits, dx, dA, dB, dWr, dRouterInput, dGates);

        double Loss()
        {
            given.Forward();
            return FiniteDifference.Dot(given.Y, dy);
        }

        double[] Numeric(double[] at)
        {
            double[] before = (double[])at.Clone();
            return FiniteDifference.Gradient(before, point =>
            {
                point.CopyTo(at, 0);
                double loss = Loss();
                before.CopyTo(at, 0);
                return loss;
            });
        }

        TestData.AssertClose(dx, Numeric(given.X), 1e-6, "dx");
        TestData.AssertClose(dA, Numeric(given.A), 1e-6, "dA");
        TestData.AssertClose(dB, Numeric(given.B), 1e-6, "dB");
        if (given.Wr.Length > 0)
            TestData.AssertClose(dWr, Numeric(given.Wr), 1e-6, "dWr");
        if (given.RouterInput.Length > 0)
            TestData.AssertClose(dRouterInput, Numeric(given.RouterInput), 1e-6, "dRouterInput");
        if (options.Gate == RankGate.Caller)
            TestData.AssertClose(dGates, Numeric(given.Gates), 1e-6, "dGates");
    }

    [Test]
    public void Accumulate_AddsToOutputsAndGradients()
    {
        Case<float, float, float> given = new(Smora, (6, 8, 4, 6, 2), false);
        given.Forward();
        float[] once = (float[])given.Y.Clone();
        RankLoraOptions adding = Smora with { Flags = CallFlags.AccumulateOutput | CallFlags.AccumulateGradients };
        RankLora.Forward(given.Shape, adding, given.X, given.A, given.B, given.Y, given.Ids, given.Gates, given.Wr,
            given.Bias, u: given.U, gateLogits: given.GateLogits);
        Assert.That(given.Y, Is.EqualTo(once.Select(value => 2 * value)).Within(1e-5f));

        float[] dA = new float[given.A.Length], dx = new float[given.X.Length];
        void Backward(RankLoraOptions options) =>
            RankLora.Backward(given.Shape, options, once, given.X, given.A, given.B, given.Ids, given.Gates, given.U,
            given.Wr, given.Bias, gateLogits: given.GateLogits, dA: dA, dx: dx);
        Backward(Smora);
        float[] dAOnce = (float[])dA.Clone(), dxOnce = (float[])dx.Clone();
        Backward(adding);
        Assert.Multiple(() =>
        {
            Assert.That(dA, Is.EqualTo(dAOnce.Select(value => 2 * value)).Within(1e-4f));
            Assert.That(dx, Is.EqualTo(dxOnce.Select(value => 2 * value)).Within(1e-4f));
        });
    }

    [Test]
    public void NoTokens_LeavesGradientsZero()
    {
        Case<float, float, float> given = new(Smora, (0, 8, 4, 6, 2), false);
        float[] dA = TestData.Poison<float>(given.A.Length), dB = TestData.Poison<float>(given.B.Length),
            dWr = TestData.Poison<float>(given.Wr.Length);

        RankLora.Backward(given.Shape, Smora, given.Y, given.X, given.A, given.B, given.Ids, given.Gates, given.U,
            given.Wr, given.Bias,
            gateLogits: given.GateLogits, dA: dA, dB: dB, dWr: dWr);

        Assert.Multiple(() =>
        {
            Assert.That(dA, Is.All.Zero);
            Assert.That(dB, Is.All.Zero);
            Assert.That(dWr, Is.All.Zero);
        });
    }

    [Test]
    public void Gradients_DoNotDependOnTheThreadCount()
    {
        (float[] Y, float[] DA, float[] DX)? first = null;
        foreach (int threads in (int[])[1, 3, 8])
        {
            using MoeContext context = new(new MoeContextOptions { ThreadCount = threads });
            Case<float, float, float> given = new(Smora with { Scale = 1 }, (300, 40, 50, 16, 2), false);
            given.Forward(context);
            float[] dA = new float[given.A.Length], dx = new float[given.X.Length];
            RankLora.Backward(given.Shape, given.Options, given.Y, given.X, given.A, given.B, given.Ids, given.Gates,
                given.U, given.Wr, given.Bias,
                gateLogits: given.GateLogits, dA: dA, dx: dx, context: context);
            first ??= (given.Y, dA, dx);
            Assert.That((given.Y, dA, dx), Is.EqualTo(first.Value), $"{threads} threads");
        }
    }

    [Test]
    public void Smora_WrongK_IsNamed() =>
        Assert.That(() => RankLoraOptions.Smora(1, 0), Throws.InstanceOf<ArgumentException>().With.Message.Contains(
        "k"));

    private static void CheckForward<TX, TWeight, TAcc>(RankLoraOptions options,
        (int T, int DIn, int DOut, int R, int K) size, double tolerance)
        where TX : unmanaged
        where TWeight : unmanaged
        where TAcc : unmanaged
    {
        Case<TX, TWeight, TAcc> given = new(options, size, false);
        RankLoraOracle oracle = RankLoraOracle.Forward(given.Shape, options, TestData.ToDouble<TX>(given.X),
            TestData.ToDouble<TWeight>(given.A),
            given.DenseB(), TestData.ToDouble<TWeight>(given.Wr), TestData.ToDouble<TAcc>(given.Bias), [], given.Ids,
            TestData.ToDouble<TAcc>(given.Gates));

        given.Forward();

        double accumulated = Math.Max(1e-5, TestData.Epsilon<TAcc>());
        accumulated = typeof(TAcc) == typeof(double) ? 1e-12 : accumulated;
        Assert.That(given.Ids, Is.EqualTo(oracle.Ids), "ids");
        TestData.AssertClose(TestData.ToDouble<TAcc>(given.Gates), oracle.Gates, accumulated, "gates");
        TestData.AssertClose(TestData.ToDouble<TAcc>(given.U), oracle.U, accumulated, "u");
        TestData.AssertClose(TestData.ToDouble<TX>(given.Y), oracle.Y, tolerance, "y");
        Assert.That(given.Counts,
            Is.EqualTo(Enumerable.Range(0, size.R).Select(rank => oracle.Ids.Count(id => id == rank))), "counts");
    }

    /// <summary>Random inputs and poisoned outputs of one call.</summary>
    private sealed class Case<TX, TWeight, TAcc>
        where TX : unmanaged
        where TWeight : unmanaged
        where TAcc : unmanaged
    {
        internal Case(RankLoraOptions options, (int T, int DIn, int DOut, int R, int K) size, bool ownRouterInput)
        {
            Options = options;
            Shape = new RankLoraShape(size.T, size.DIn, size.DOut, size.R, size.K);
            long routerRows = options.Gate == RankGate.Router ? size.R / Math.Max(1, options.RankPartition) : 0;
            X = TestData.To<TX>(TestData.Uniform(1, (long)size.T * size.DIn));
            A = TestData.To<TWeight>(TestData.Uniform(2, (long)size.R * size.DIn));
            B = TestData.To<TWeight>(TestData.Uniform(3, (long)size.DOut * size.R));
            Wr = TestData.To<TWeight>(TestData.Uniform(4, routerRows * size.DIn));
            Bias = options.BiasMode == BiasMode.None ? []
                : TestData.To<TAcc>(Array.ConvertAll(TestData.Uniform(5, size.R), value => value * 0.1));
            RouterInput = ownRouterInput ? TestData.To<TX>(TestData.Uniform(6, (long)size.T * size.DIn)) : [];
            Y = TestData.Poison<TX>((long)size.T * size.DOut);
            Ids = [.. Enumerable.Range(0, size.T * size.K).Select(i => (i / size.K + i % size.K) % size.R)];
            Gates = options.Gate == RankGate.Caller ? TestData.To<TAcc>(TestData.Uniform(7, (long)size.T * size.K))
                : TestData.Poison<TAcc>((long)size.T * size.K);
            U = TestData.Poison<TAcc>((long)size.T * size.K);
            GateLogits = TestData.Poison<TAcc>(options.Gate switch
            {
                RankGate.Router => size.T * routerRows,
                RankGate.ActivationSoftmax => (long)size.T * size.R,
                _ => 0,
            });
            Counts = new int[size.R];
        }

        internal RankLoraOptions Options { get; }

        internal RankLoraShape Shape { get; }

        internal TX[] X { get; }

        internal TWeight[] A { get; }

        internal TWeight[] B { get; }

        internal TWeight[] Wr { get; }

        internal TAcc[] Bias { get; }

        internal TX[] RouterInput { get; }

        internal TX[] Y { get; }

        internal int[] Ids { get; }

        internal TAcc[] Gates { get; }

        internal TAcc[] U { get; }

        internal TAcc[] GateLogits { get; }

        internal int[] Counts { get; }

        internal void Forward(MoeContext? context = null) =>
            RankLora.Forward(Shape, Options, X, A, B, Y, Ids, Gates, Wr, Bias, RouterInput, U, GateLogits, Counts,
            context);

        /// <summary>B as [DOut, R], whatever its layout.</summary>
        internal double[] DenseB()
        {
            double[] values = TestData.ToDouble<TWeight>(B);
            if (Options.BLayout == BLayout.OutByRank)
                return values;
            int r = (int)Shape.R, dout = (int)Shape.DOut;
            return [.. Enumerable.Range(0, dout * r).Select(i => values[i % r * dout + i / r])];
        }
    }
}
