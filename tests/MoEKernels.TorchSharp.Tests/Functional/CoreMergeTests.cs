using MoEKernels.TorchSharp.Reference;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

public sealed class CoreMergeTests
{
    private static readonly string[] Names = ["x", "a", "b", "cores", "router", "routerInput", "mixture", "baseOutput"];

    public sealed record Variant(string Name, CoreMergeOptions Options)
    {
        public override string ToString() => Name;
    }

    private static IEnumerable<Variant> Variants() =>
    [
        new("core router", new CoreMergeOptions { Scale = 1 }),
        new("core router, temperature", new CoreMergeOptions { Scale = -0.5, Temperature = 0.7 }),
        new("input router", new CoreMergeOptions { Scale = 2, Router = CoreRouter.Input }),
        new("caller", new CoreMergeOptions { Scale = 1.5, Router = CoreRouter.Caller }),
        new("rank-major B", new CoreMergeOptions { Scale = 1, BLayout = BLayout.RankByOut }),
    ];

    private static Tensor?[] Make(
        CoreMergeOptions options, long[] leading, long dIn, long dOut, long rank, long experts,
        ScalarType type = ScalarType.Float64, ScalarType? weights = null, bool withBase = false, bool withRouterInput = false)
    {
        manual_seed(23);
        ScalarType weightType = weights ?? type;
        long tokens = leading.Aggregate(1L, (x, y) => x * y);
        Tensor Make(ScalarType t, params long[] shape) => randn(shape, dtype: ScalarType.Float64).to(t);
        Tensor?[] all =
        [
            Make(type, [.. leading, dIn]),
            Make(weightType, rank, dIn),
            options.BLayout == BLayout.OutByRank ? Make(weightType, dOut, rank) : Make(weightType, rank, dOut),
            Make(weightType, experts, rank, rank),
            options.Router == CoreRouter.Caller ? null : Make(weightType, experts, options.Router == CoreRouter.Core ? rank : dIn).mul(0.3),
            withRouterInput ? Make(type, [.. leading, dIn]) : null,
            options.Router == CoreRouter.Caller ? Make(TensorTypes.Accumulator(type), tokens, experts) : null,
            withBase ? Make(type, [.. leading, dOut]) : null,
        ];
        return [.. all.Select(t => t?.detach().requires_grad_())];
    }

    private static Tensor Fused(Tensor?[] t, CoreMergeOptions options) =>
        MoeFunctional.CoreMerge(t[0]!, t[1]!, t[2]!, t[3]!, t[4], options, t[5], t[6], t[7]).Output;

    private static Tensor Twin(Tensor?[] t, CoreMergeOptions options, Tensor? mask = null, Tensor? coreMask = null)
    {
        Tensor y = ReferenceOps.CoreMerge(t[0]!, t[1]!, t[2]!, t[3]!, t[4], options, t[5], t[6], dropoutMask: mask, coreDropoutMask: coreMask).Output;
        return t[7] is null ? y : t[7]! + y;
    }

    [Test]
    public void CoreMerge_HandVector_Comol()
    {
        using var scope = NewDisposeScope();
        Tensor Leaf(double[,] values) => tensor(values, dtype: ScalarType.Float64).requires_grad_();
        Tensor x = Leaf(HandVectors.ComolX), a = Leaf(HandVectors.ComolA), b = Leaf(HandVectors.ComolB), router = Leaf(HandVectors.ComolRouter);
        Tensor cores = tensor(HandVectors.ComolCores, [2, 2, 2], dtype: ScalarType.Float64).requires_grad_();
        CoreMergeResult result = MoeFunctional.CoreMerge(x, a, b, cores, router, new CoreMergeOptions { Scale = 1 });
        HandVectors.CheckComol(result.Output, result.Mixture, [x, a, b, cores, router], 1e-9);
        MoeFunctional.ThrowPendingBackwardError();
    }

    [Test]
    public void CoreMerge_ShapeGrid_OutputsAndGradientsEqualTheTwins([ValueSource(nameof(Variants))] Variant variant)
    {
        (long[] Leading, long DIn, long DOut, long Rank, long Experts)[] shapes =
        [
            ([1], 1, 1, 1, 1), ([3], 5, 7, 3, 2), ([2, 3], 17, 9, 4, 5), ([33], 40, 24, 16, 8), ([2, 2, 9], 64, 33, 8, 3), ([70], 31, 65, 7, 17),
        ];
        foreach (var shape in shapes)
        {
            using var scope = NewDisposeScope();
            Tensor?[] inputs = Make(variant.Options, shape.Leading, shape.DIn, shape.DOut, shape.Rank, shape.Experts,
                withBase: shape.DIn % 2 == 1, withRouterInput: variant.Options.Router == CoreRouter.Input && shape.Rank == 4);
            string what = $"T [{string.Join(", ", shape.Leading)}] d {shape.DIn} -> {shape.DOut} r {shape.Rank} E {shape.Experts}";
            TensorAssert.AreCloseToScale(Fused(inputs, variant.Options), Twin(inputs, variant.Options), 1e-10, what);
            Tensor?[] got = GradientCheck.ByBackward(t => Fused(t, variant.Options), inputs);
            Tensor?[] expected = GradientCheck.ByBackward(t => Twin(t, variant.Options), inputs);
            for (int i = 0; i < Names.Length; i++)
                TensorAssert.AreCloseToScale(got[i], expected[i], 1e-9, $"{what}: d {Names[i]}");
        }
    }

    [Test]
    public void CoreMerge_Gradients_EqualDifferences([ValueSource(nameof(Variants))] Variant variant)
    {
        using var scope = NewDisposeScope();
        Tensor?[] inputs = Make(variant.Options, [3], 5, 4, 3, 4, withBase: true, withRouterInput: variant.Options.Router == CoreRouter.Input);
        GradientCheck.AgainstDifferences(t => Fused(t, variant.Options), inputs, Names);
    }

    [TestCase(ScalarType.Float32, ScalarType.Float32, 1e-5)]
    [TestCase(ScalarType.BFloat16, ScalarType.BFloat16, 2e-2)]
    [TestCase(ScalarType.Float16, ScalarType.Float16, 3e-3)]
    [TestCase(ScalarType.BFloat16, ScalarType.Float32, 2e-2)]
    [TestCase(ScalarType.Float16, ScalarType.Float32, 3e-3)]
    public void CoreMerge_LowerPrecision_EqualsTheTwinInDouble(ScalarType type, ScalarType weights, double tolerance)
    {
        using var scope = NewDisposeScope();
        var options = new CoreMergeOptions { Scale = 0.5 };
        Tensor?[] leaves = Make(options, [9], 24, 16, 8, 3, type, weights, withBase: true);
        Tensor?[] wide = [.. leaves.Select(t => t?.detach().to(ScalarType.Float64).requires_grad_())];
        Tensor output = Fused(leaves, options);
        Tensor expected = Twin(wide, options);
        Assert.That(output.dtype, Is.EqualTo(type));
        TensorAssert.AreCloseToScale(output, expected, tolerance, "y");
        output.sum().backward();
        expected.sum().backward();
        MoeFunctional.ThrowPendingBackwardError();
        for (int i = 0; i < Names.Length; i++)
        {
            if (leaves[i] is not { } leaf)
                continue;
            Assert.That(leaf.grad!.dtype, Is.EqualTo(leaf.dtype), Names[i]);
            TensorAssert.AreCloseToScale(leaf.grad, wide[i]!.grad, tolerance, $"d {Names[i]}");
        }
    }

    [Test]
    public void CoreMerge_Dropout_IsTheMasksThatTheLibraryTells([Values] bool fromInput)
    {
        using var scope = NewDisposeScope();
        var options = new CoreMergeOptions
        {
            Scale = 1,
            Router = fromInput ? CoreRouter.Input : CoreRouter.Core,
            DropoutP = 0.3,
            DropoutCoreP = 0.4,
            DropoutSeed = 99,
            DropoutOffset = 1UL << 40,
        };
        Tensor?[] inputs = Make(options, [11], 13, 6, 5, 3);
        Tensor mask = MoeFunctional.DropoutMask(11, 13, 0.3, 99, 1UL << 40, dtype: ScalarType.Float64);
        Tensor coreMask = MoeFunctional.DropoutMask(11, 5, 0.4, 99, 1UL << 40, DropoutStream.Core, ScalarType.Float64);
        TensorAssert.AreCloseToScale(Fused(inputs, options), Twin(inputs, options, mask, coreMask), 1e-10);
        Tensor?[] got = GradientCheck.ByBackward(t => Fused(t, options), inputs);
        Tensor?[] expected = GradientCheck.ByBackward(t => Twin(t, options, mask, coreMask), inputs);
        for (int i = 0; i < Names.Length; i++)
            TensorAssert.AreCloseToScale(got[i], expected[i], 1e-9, Names[i]);
    }

    [Test]
    public void CoreMerge_PartialRequiresGrad_GivesTheSameGradientsForTheRest()
    {
        using var scope = NewDisposeScope();
        var options = new CoreMergeOptions { Scale = 1 };
        Tensor?[] inputs = Make(options, [5], 7, 6, 4, 3, withBase: true);
        Tensor?[] all = GradientCheck.ByBackward(t => Fused(t, options), inputs);
        for (int set = 1; set < 1 << Names.Length; set++)
        {
            Tensor?[] some = [.. inputs.Select((t, i) => (set >> i & 1) != 0 ? t : t?.detach())];
            if (some.All(t => t is not { requires_grad: true }))
                continue;
            Tensor?[] got = GradientCheck.ByBackward(t => Fused(t, options), some);
            for (int i = 0; i < Names.Length; i++)
            {
                if (some[i] is { requires_grad: true })
                    TensorAssert.AreCloseToScale(got[i], all[i], 1e-12, $"set {set}: d {Names[i]}");
                else
                    Assert.That(got[i], Is.Null);
            }
        }
    }

    [Test]
    public void CoreMerge_NoTokens_GivesEmptyOutputAndZeroGradients()
    {
        using var scope = NewDisposeScope();
        var options = new CoreMergeOptions { Scale = 1 };
        Tensor?[] inputs = Make(options, [0], 7, 5, 4, 3, withBase: true);
        Tensor y = Fused(inputs, options);
        Assert.That(y.shape, Is.EqualTo(new long[] { 0, 5 }));
        y.sum().backward();
        MoeFunctional.ThrowPendingBackwardError();
        Assert.That(inputs[3]!.grad!.abs().max().item<double>(), Is.Zero);
    }

    [Test]
    public void CoreMerge_TransposedInputs_EqualContiguousOnes()
    {
        using var scope = NewDisposeScope();
        var options = new CoreMergeOptions { Scale = 1 };
        Tensor?[] dense = Make(options, [6], 7, 5, 4, 3, withBase: true);
        Tensor?[] strided = [.. dense.Select(t => t?.detach().transpose(-1, -2).contiguous().transpose(-1, -2).requires_grad_())];
        Assert.That(strided[3]!.is_contiguous(), Is.False);
        Tensor got = Fused(strided, options);
        TensorAssert.AreEqual(got, Fused(dense, options));
        got.sum().backward();
        Fused(dense, options).sum().backward();
        for (int i = 0; i < Names.Length; i++)
            TensorAssert.AreEqual(strided[i]?.grad ?? zeros(1), dense[i]?.grad ?? zeros(1), Names[i]);
    }

    private static IEnumerable<TestCaseData> WrongCalls()
    {
        TestCaseData Case(string name, string message, Func<Tensor?[], CoreMergeOptions, CoreMergeOptions> change) =>
            new TestCaseData(change, message).SetArgDisplayNames(name);
        // x, a, b, cores, router, routerInput, mixture, base
        TestCaseData Replace(string name, int which, Func<Tensor?> make, string message, CoreMergeOptions? options = null) => Case(name, message, (t, o) =>
        {
            t[which] = make();
            return options ?? o;
        });
        yield return Replace("x width", 0, () => ones(3, 6), "x has shape [3, 6]");
        yield return Replace("a type", 1, () => ones(4, 5, dtype: ScalarType.BFloat16), "a is BFloat16 and x is Float32");
        yield return Replace("b shape", 2, () => ones(7, 3), "b has shape [7, 3]");
        yield return Replace("cores null", 3, () => null, "cores");
        yield return Replace("cores shape", 3, () => ones(2, 4, 3), "cores has shape [2, 4, 3]");
        yield return Replace("cores none", 3, () => ones(0, 4, 4), "1 to 4096");
        yield return Replace("cores type", 3, () => ones(2, 4, 4, dtype: ScalarType.Float64), "cores is Float64");
        yield return Replace("router null", 4, () => null, "router is null");
        yield return Replace("router shape", 4, () => ones(2, 5), "router has shape [2, 5]");
        yield return Replace("router unexpected", 4, () => ones(2, 4), "router is given", new CoreMergeOptions { Scale = 1, Router = CoreRouter.Caller });
        yield return Replace("router input unread", 5, () => ones(3, 5), "nothing reads it");
        yield return Replace("mixture unexpected", 6, () => ones(3, 2), "mixture is given");
        yield return Replace("base shape", 7, () => zeros(2, 7), "baseOutput has shape [2, 7]");
        yield return Case("mixture missing", "mixture", (t, o) =>
        {
            t[4] = null;
            return o with { Router = CoreRouter.Caller };
        });
        yield return Case("core dropout", "DropoutCoreP", (_, o) => o with { DropoutCoreP = 1 });
        yield return Case("router value", "Router", (_, o) => o with { Router = (CoreRouter)9 });
        yield return Case("temperature", "Temperature", (_, o) => o with { Temperature = -1 });
        yield return Case("flags", "Flags", (_, o) => o with { Flags = CallFlags.AccumulateCounts });
    }

    [TestCaseSource(nameof(WrongCalls))]
    public void CoreMerge_WrongArgument_IsNamed(Func<Tensor?[], CoreMergeOptions, CoreMergeOptions> change, string message)
    {
        using var scope = NewDisposeScope();
        Tensor?[] t = [ones(3, 5), ones(4, 5), ones(7, 4), ones(2, 4, 4), ones(2, 4), null, null, null];
        CoreMergeOptions options = change(t, new CoreMergeOptions { Scale = 1 });
        Assert.That(() => MoeFunctional.CoreMerge(t[0]!, t[1]!, t[2]!, t[3]!, t[4], options, t[5], t[6], t[7]),
            Throws.InstanceOf<ArgumentException>().With.Message.Contains(message));
    }
}
