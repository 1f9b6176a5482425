namespace MoEKernels.Tests;

public sealed class CoreMergeTests
{
    private static readonly CoreMergeOptions[] Variants =
    [
        new() { Scale = 1 },
        new() { Scale = 1.5, Router = CoreRouter.Input, Temperature = 0.7 },
        new() { Scale = 0.5, Router = CoreRouter.Caller },
        new() { Scale = 2, BLayout = BLayout.RankByOut, DropoutP = 0.25, DropoutCoreP = 0.4,
        DropoutSeed = 123456789012345, DropoutOffset = 7 },
    ];

    private static readonly (int T, int DIn, int DOut, int R, int E)[] Shapes = [(1, 1, 1, 1, 1), (5, 7, 3, 4, 3),
        (70, 33, 65, 16, 8), (3, 130, 9, 5, 20), (0, 4, 4, 4, 2)];

    [Test]
    public void Forward_Float_MatchesTheOracle([ValueSource(nameof(Variants))] CoreMergeOptions options,
        [ValueSource(nameof(Shapes))] (int, int, int, int, int) shape) =>
        CheckForward<float, float, float>(options, shape, 1e-5);

    [Test]
    public void Forward_Double_MatchesTheOracle([ValueSource(nameof(Variants))] CoreMergeOptions options,
        [ValueSource(nameof(Shapes))] (int, int, int, int, int) shape) =>
        CheckForward<double, double, double>(options, shape, 1e-12);

    [Test]
    public void Forward_Half_MatchesTheOracle([ValueSource(nameof(Variants))] CoreMergeOptions options) =>
        CheckForward<Half, Half, float>(options, (9, 17, 5, 4, 3), 1e-3);

    [Test]
    public void Forward_BFloat16_MatchesTheOracle([ValueSource(nameof(Variants))] CoreMergeOptions options) =>
        CheckForward<BFloat16, BFloat16, float>(options, (9, 17, 5, 4, 3), 8e-3);

    [Test]
    public void Forward_MixedBFloat16_MatchesTheOracle([ValueSource(nameof(Variants))] CoreMergeOptions options) =>
        CheckForward<BFloat16, float, float>(options, (9, 17, 5, 4, 3), 8e-3);

    // d = r = o = 2, E = 2; worked out by hand from the formulas of CoMoL (arXiv 2603.00573). C_2 is not symmetric: a
    // transposed
    // core fails here.
    [Test]
    public void ComolVector_GivesTheKnownOutputsAndGradients()
    {
        double[] x = [1, -2];
        double[] a = [1, 0, 0.5, 0.5];
        double[] b = [1, 2, 0, -1];
        double[] c = [1, 0, 0, 1, 0, 2, -1, 0];
        double[] wg = [0.3, -0.2, 0, 0.1];
        double[] y = new double[2], u = new double[2], p = new double[2], v = new double[2];
        CoreMergeShape shape = new(1, 2, 2, 2, 2);
        CoreMergeOptions options = new() { Scale = 1 };

        CoreMerge.Forward(shape, options, x, a, b, c, y, u, p, v, wg);
        Assert.Multiple(() =>
        {
            Assert.That(u, Is.EqualTo(new[] { 1, -0.5 }).Within(1e-12));
            Assert.That(p, Is.EqualTo(new[] { 0.6106392339, 0.3893607661 }).Within(1e-9));
            Assert.That(v, Is.EqualTo(new[] { 0.8053196170, 0.4734019151 }).Within(1e-9));
            Assert.That(y, Is.EqualTo(new[] { 1.7521234472, -0.4734019151 }).Within(1e-9));
        });

        double[] dx = new double[2], dC = TestData.Poison<double>(8), dp = new double[2],
            dWg = TestData.Poison<double>(4);
        CoreMerge.Backward(shape, options, [1, 1], x, a, b, c, u, p, v, wg, dx: dx, dC: dC, dWg: dWg, dp: dp);
        Assert.Multiple(() =>
        {
            Assert.That(dp, Is.EqualTo(new[] { 0.5, 2.5 }).Within(1e-9));
            Assert.That(dx, Is.EqualTo(new[] { 1.4286723120, 0.1819669219 }).Within(1e-9));
            Assert.That(dC, Is.EqualTo(new[] { 0.6106392339, 0.6106392339, -0.3053196170, -0.3053196170, 0.3893607661,
                0.3893607661, -0.1946803830, -0.1946803830 }).Within(1e-9));
            // dl u^T with dl = (-0.4755179198, 0.4755179198).
            Assert.That(dWg, Is.EqualTo(new[] { -0.4755179198, 0.2377589599, 0.4755179198, -0.2377589599 }).Within(
                1e-9));
        });
    }

    // Every variant; once more with a router input of its own where something reads one.
    private static IEnumerable<object[]> VariantsWithRouterInputs()
    {
        foreach (CoreMergeOptions options in Variants)
        {
            yield return [options, false];
            if (options.Router == CoreRouter.Input)
                yield return [options, true];
        }
    }

    [TestCaseSource(nameof(VariantsWithRouterInputs))]
    public void Backward_Double_MatchesFiniteDifferences(CoreMergeOptions options, bool ownRouterInput)
    {
        Case<double, double, double> given = new(options, (4, 5, 3, 4, 3), ownRouterInput);
        double[] dy = TestData.Uniform(77, given.Y.Length);
        given.Forward();

        double[] dx = TestData.Poison<double>(given.X.Length), dA = TestData.Poison<double>(given.A.Length),
            dB = TestData.Poison<double>(given.B.Length);
        double[] dC = TestData.Poison<double>(given.C.Length), dWg = TestData.Poison<double>(given.Wg.Length);
        double[] dRouterInput = TestData.Poison<double>(given.RouterInput.Length),
            dp = TestData.Poison<double>(given.P.Length);
        CoreMerge.Backward(given.Shape, options, dy, given.X, given.A, given.B, given.C, given.U, given.P, given.V,
            given.Wg, given.RouterInput,
            dx, dA, dB, dC, dWg, dRouterInput, dp);

        double[] Numeric(double[] at)
        {
            double[] before = (double[])at.Clone();
            return FiniteDifference.Gradient(before, point =>
            {
                point.CopyTo(at, 0);
                given.Forward();
                double loss = FiniteDifference.Dot(given.Y, dy);
                before.CopyTo(at, 0);
                return loss;
            });
        }

        TestData.AssertClose(dx, Numeric(given.X), 1e-6, "dx");
        TestData.AssertClose(dA, Numeric(given.A), 1e-6, "dA");
        TestData.AssertClose(dB, Numeric(given.B), 1e-6, "dB");
        TestData.AssertClose(dC, Numeric(given.C), 1e-6, "dC");
        if (given.Wg.Length > 0)
            TestData.AssertClose(dWg, Numeric(given.Wg), 1e-6, "dWg");
        if (given.RouterInput.Length > 0)
            TestData.AssertClose(dRouterInput, Numeric(given.RouterInput), 1e-6, "dRouterInput");
        if (options.Router == CoreRouter.Caller)
            TestData.AssertClose(dp, Numeric(given.P), 1e-6, "dp");
    }

    [Test]
    public void Forward_WithoutSavedTensors_GivesTheSameOutput()
    {
        Case<float, float, float> given = new(Variants[0], (6, 8, 4, 4, 3), false);
        given.Forward();
        float[] y = TestData.Poison<float>(given.Y.Length);

        CoreMerge.Forward(given.Shape, given.Options, given.X, given.A, given.B, given.C, y, default,
            default(Span<float>), default, given.Wg);

        Assert.That(y, Is.EqualTo(given.Y));
    }

    [Test]
    public void Accumulate_AddsToOutputsAndGradients()
    {
        Case<float, float, float> given = new(Variants[0], (6, 8, 4, 4, 3), false);
        given.Forward();
        float[] once = (float[])given.Y.Clone();
        CallFlags flags = CallFlags.AccumulateOutput | CallFlags.AccumulateGradients;
        CoreMergeOptions adding = given.Options with { Flags = flags };
        CoreMerge.Forward(given.Shape, adding, given.X, given.A, given.B, given.C, given.Y, given.U, given.P, given.V,
            given.Wg);
        Assert.That(given.Y, Is.EqualTo(once.Select(value => 2 * value)).Within(1e-5f));

        float[] dC = new float[given.C.Length], dx = new float[given.X.Length];
        void Backward(CoreMergeOptions options) =>
            CoreMerge.Backward(given.Shape, options, once, given.X, given.A, given.B, given.C, given.U, given.P,
            given.V, given.Wg, dC: dC, dx: dx);
        Backward(given.Options);
        float[] dCOnce = (float[])dC.Clone(), dxOnce = (float[])dx.Clone();
        Backward(adding);
        Assert.Multiple(() =>
        {
            Assert.That(dC, Is.EqualTo(dCOnce.Select(value => 2 * value)).Within(1e-4f));
            Assert.That(dx, Is.EqualTo(dxOnce.Select(value => 2 * value)).Within(1e-4f));
        });
    }

    [Test]
    public void NoTokens_LeavesGradientsZero()
    {
        Case<float, float, float> given = new(Variants[0], (0, 8, 4, 4, 3), false);
        float[] dA = TestData.Poison<float>(given.A.Length), dB = TestData.Poison<float>(given.B.Length),
            dC = TestData.Poison<float>(given.C.Length);
        float[] dWg = TestData.Poison<float>(given.Wg.Length);

        CoreMerge.Backward(given.Shape, given.Options, given.Y, given.X, given.A, given.B, given.C, given.U, given.P,
            given.V, given.Wg,
            dA: dA, dB: dB, dC: dC, dWg: dWg);

        Assert.That(dA.Concat(dB).Concat(dC).Concat(dWg), Is.All.Zero);
    }

    [Test]
    public void Gradients_DoNotDependOnTheThreadCount()
    {
        (float[] Y, float[] DC, float[] DX)? first = null;
        foreach (int threads in (int[])[1, 3, 8])
        {
            using MoeContext context = new(new MoeContextOptions { ThreadCount = threads });
            Case<float, float, float> given = new(Variants[0], (300, 40, 50, 8, 4), false);
            given.Forward(context);
            float[] dC = new float[given.C.Length], dx = new float[given.X.Length];
            CoreMerge.Backward(given.Shape, given.Options, given.Y, given.X, given.A, given.B, given.C, given.U,
                given.P, given.V, given.Wg,
                dC: dC, dx: dx, context: context);
            first ??= (given.Y, dC, dx);
            Assert.That((given.Y, dC, dx), Is.EqualTo(first.Value), $"{threads} threads");
        }
    }

    private static void CheckForward<TX, TWeight, TAcc>(CoreMergeOptions options,
        (int T, int DIn, int DOut, int R, int E) size, double tolerance)
        where TX : unmanaged
        where TWeight : unmanaged
        where TAcc : unmanaged
    {
        Case<TX, TWeight, TAcc> given = new(options, size, false);
        CoreMergeOracle oracle = CoreMergeOracle.Forward(given.Shape, options, TestData.ToDouble<TX>(given.X),
            TestData.ToDouble<TWeight>(given.A),
            given.DenseB(), TestData.ToDouble<TWeight>(given.C), TestData.ToDouble<TWeight>(given.Wg), [],
            TestData.ToDouble<TAcc>(given.P));

        given.Forward();

        double accumulated = typeof(TAcc) == typeof(double) ? 1e-12 : 1e-5;
        TestData.AssertClose(TestData.ToDouble<TAcc>(given.U), oracle.U, accumulated, "u");
        TestData.AssertClose(TestData.ToDouble<TAcc>(given.P), oracle.P, accumulated, "p");
        TestData.AssertClose(TestData.ToDouble<TAcc>(given.V), oracle.V, accumulated, "v");
        TestData.AssertClose(TestData.ToDouble<TX>(given.Y), oracle.Y, tolerance, "y");
    }

    /// <summary>Random inputs and poisoned outputs of one call.</summary>
    private sealed class Case<TX, TWeight, TAcc>
        where TX : unmanaged
        where TWeight : unmanaged
        where TAcc : unmanaged
    {
        internal Case(CoreMergeOptions options, (int T, int DIn, int DOut, int R, int E) size, bool ownRouterInput)
        {
            Options = options;
            Shape = new CoreMergeShape(size.T, size.DIn, size.DOut, size.R, size.E);
            X = TestData.To<TX>(TestData.Uniform(1, (long)size.T * size.DIn));
            A = TestData.To<TWeight>(TestData.Uniform(2, (long)size.R * size.DIn));
            B = TestData.To<TWeight>(TestData.Uniform(3, (long)size.DOut * size.R));
            C = TestData.To<TWeight>(TestData.Uniform(4, (long)size.E * size.R * size.R));
            Wg = TestData.To<TWeight>(TestData.Uniform(5, options.Router switch
            {
                CoreRouter.Core => size.E * size.R,
                CoreRouter.Input => size.E * size.DIn,
                _ => 0,
            }));
            RouterInput = ownRouterInput ? TestData.To<TX>(TestData.Uniform(6, (long)size.T * size.DIn)) : [];
            Y = TestData.Poison<TX>((long)size.T * size.DOut);
            U = TestData.Poison<TAcc>((long)size.T * size.R);
            P = options.Router == CoreRouter.Caller ? TestData.To<TAcc>(TestData.Uniform(7, (long)size.T * size.E))
                : TestData.Poison<TAcc>((long)size.T * size.E);
            V = TestData.Poison<TAcc>((long)size.T * size.R);
        }

        internal CoreMergeOptions Options { get; }

        internal CoreMergeShape Shape { get; }

        internal TX[] X { get; }

        internal TWeight[] A { get; }

        internal TWeight[] B { get; }

        internal TWeight[] C { get; }

        internal TWeight[] Wg { get; }

        internal TX[] RouterInput { get; }

        internal TX[] Y { get; }

        internal TAcc[] U { get; }

        internal TAcc[] P { get; }

        internal TAcc[] V { get; }

        internal void Forward(MoeContext? context = null) =>
            CoreMerge.Forward(Shape, Options, X, A, B, C, Y, U, P, V, Wg, RouterInput, context);

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
