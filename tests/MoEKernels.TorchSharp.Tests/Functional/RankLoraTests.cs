using MoEKernels.TorchSharp.Reference;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

public sealed class RankLoraTests
{
    private static readonly string[] Names = ["x", "a", "b", "router", "routerInput", "gates", "baseOutput"];

    public sealed record Variant(string Name, RankLoraOptions Options)
    {
        public override string ToString() => Name;
    }

    private static IEnumerable<Variant> Variants() =>
    [
        new("smora", RankLoraOptions.Smora(alpha: 4, k: 1)),
        new("smora partition 2, eps", RankLoraOptions.Smora(alpha: 4, k: 1) with { RankPartition = 2, Eps = 0.05 }),
        new("softmax over selected", new RankLoraOptions { Scale = 2, Score = GateScore.Softmax, Normalize = GateNormalize.SumToK }),
        new("softmax raw, temperature", new RankLoraOptions { Scale = -1.5, Temperature = 0.6 }),
        new("sigmoid, selection bias", new RankLoraOptions { Scale = 1, Score = GateScore.Sigmoid, BiasMode = BiasMode.Selection, Normalize = GateNormalize.SumToOne }),
        new("rank-major B", RankLoraOptions.Smora(alpha: 4, k: 1) with { BLayout = BLayout.RankByOut }),
        new("signed activation", new RankLoraOptions { Scale = 2, Gate = RankGate.ActivationSigned, BiasMode = BiasMode.Selection }),
        new("absolute activation", new RankLoraOptions { Scale = 2, Gate = RankGate.ActivationAbsolute }),
        new("activation softmax", new RankLoraOptions { Scale = 3, Gate = RankGate.ActivationSoftmax, Temperature = 0.3, Eps = 1e-6 }),
        new("activation softmax, threshold, to one", new RankLoraOptions { Scale = 3, Gate = RankGate.ActivationSoftmax, Threshold = 0.15, Normalize = GateNormalize.SumToOne }),
        new("caller", new RankLoraOptions { Scale = 1.25, Gate = RankGate.Caller }),
    ];

    /// <summary>Inputs in the order of <see cref="Names"/>, then bias and ids.</summary>
    private sealed record Inputs(Tensor?[] Differentiable, Tensor? Bias, Tensor? Ids)
    {
        public static Inputs Make(
            RankLoraOptions options, long[] leading, long dIn, long dOut, long rank, long k,
            ScalarType type = ScalarType.Float64, ScalarType? weights = null, bool withBase = false, bool withRouterInput = false, bool leaves = true)
        {
            manual_seed(17);
            ScalarType weightType = weights ?? type;
            long tokens = leading.Aggregate(1L, (x, y) => x * y);
            long partition = Math.Max(1, options.RankPartition);
            Tensor Make(ScalarType t, params long[] shape) => randn(shape, dtype: ScalarType.Float64).to(t);
            Tensor x = Make(type, [.. leading, dIn]);
            Tensor a = Make(weightType, rank, dIn);
            Tensor b = options.BLayout == BLayout.OutByRank ? Make(weightType, dOut, rank) : Make(weightType, rank, dOut);
            Tensor? router = options.Gate == RankGate.Router ? Make(weightType, rank / partition, dIn).mul(0.3) : null;
            Tensor? routerInput = withRouterInput ? Make(type, [.. leading, dIn]) : null;
            Tensor? gates = options.Gate == RankGate.Caller ? Make(TensorTypes.Accumulator(type), tokens, k) : null;
            Tensor? ids = options.Gate == RankGate.Caller ? rand(tokens, rank).argsort(-1).narrow(1, 0, k).to(ScalarType.Int32).contiguous() : null;
            Tensor? baseOutput = withBase ? Make(type, [.. leading, dOut]) : null;
            // The bias breaks ties between the sub-ranks of a partition.
            Tensor? bias = options.BiasMode == BiasMode.None ? null : Make(TensorTypes.Accumulator(type), rank).mul(0.05);
            Tensor?[] all = [x, a, b, router, routerInput, gates, baseOutput];
            if (leaves)
                all = [.. all.Select(t => t?.detach().requires_grad_())];
            return new Inputs(all, bias, ids);
        }

        public Tensor Fused(Tensor?[] t, long k, RankLoraOptions options) =>
            MoeFunctional.RankLora(t[0]!, t[1]!, t[2]!, t[3], k, options, Bias, t[4], Ids, t[5], t[6]).Output;

        public Tensor Twin(Tensor?[] t, long k, RankLoraOptions options, Tensor? mask = null)
        {
            Tensor y = ReferenceOps.RankLora(t[0]!, t[1]!, t[2]!, t[3], k, options, Bias, t[4], Ids?.to(ScalarType.Int64), t[5], mask).Output;
            return t[6] is null ? y : t[6]! + y;
        }
    }

    [Test]
    public void RankLora_HandVector_Smora()
    {
        using var scope = NewDisposeScope();
        Tensor Leaf(double[,] values) => tensor(values, dtype: ScalarType.Float64).requires_grad_();
        Tensor x = Leaf(HandVectors.SmoraX), a = Leaf(HandVectors.SmoraA), b = Leaf(HandVectors.SmoraB), router = Leaf(HandVectors.SmoraRouter);
        Tensor bias = tensor(HandVectors.SmoraBias, dtype: ScalarType.Float64);
        RankLoraResult result = MoeFunctional.RankLora(x, a, b, router, 2, RankLoraOptions.Smora(alpha: 4, k: 2), bias);
        HandVectors.CheckSmora(result.Output, result.Ids, result.Gates, [x, a, b, router], 1e-9);
        MoeFunctional.ThrowPendingBackwardError();
        Assert.That(result.Counts.data<int>().ToArray(), Is.EqualTo(new[] { 1, 0, 1 }));
    }

    [Test]
    public void RankLora_ShapeGrid_OutputsAndGradientsEqualTheTwins([ValueSource(nameof(Variants))] Variant variant)
    {
        (long[] Leading, long DIn, long DOut, long Rank, long K)[] shapes =
        [
            ([1], 1, 1, 2, 1), ([3], 5, 7, 4, 2), ([2, 3], 17, 9, 6, 6), ([33], 40, 24, 16, 5), ([2, 2, 9], 64, 33, 8, 3), ([70], 31, 65, 64, 8),
        ];
        foreach (var shape in shapes)
        {
            using var scope = NewDisposeScope();
            bool withBase = shape.DIn % 2 == 1;
            bool withRouterInput = variant.Options.Gate == RankGate.Router && shape.Rank == 6;
            var inputs = Inputs.Make(variant.Options, shape.Leading, shape.DIn, shape.DOut, shape.Rank, shape.K, withBase: withBase, withRouterInput: withRouterInput);
            string what = $"T [{string.Join(", ", shape.Leading)}] d {shape.DIn} -> {shape.DOut} r {shape.Rank} k {shape.K}";
            TensorAssert.AreCloseToScale(inputs.Fused(inputs.Differentiable, shape.K, variant.Options), inputs.Twin(inputs.Differentiable, shape.K, variant.Options), 1e-10, what);
            Tensor?[] got = GradientCheck.ByBackward(t => inputs.Fused(t, shape.K, variant.Options), inputs.Differentiable);
            Tensor?[] expected = GradientCheck.ByBackward(t => inputs.Twin(t, shape.K, variant.Options), inputs.Differentiable);
            for (int i = 0; i < Names.Length; i++)
                TensorAssert.AreCloseToScale(got[i], expected[i] ?? (got[i] is null ? null : zeros_like(got[i]!)), 1e-9, $"{what}: d {Names[i]}");
        }
    }

    [Test]
    public void RankLora_Gradients_EqualDifferences([ValueSource(nameof(Variants))] Variant variant)
    {
        using var scope = NewDisposeScope();
        var inputs = Inputs.Make(variant.Options, [3], 5, 4, 6, 3, withBase: true, withRouterInput: variant.Options.Gate == RankGate.Router);
        GradientCheck.AgainstDifferences(t => inputs.Fused(t, 3, variant.Options), inputs.Differentiable, Names);
    }

    [TestCase(ScalarType.Float32, ScalarType.Float32, 1e-5)]
    [TestCase(ScalarType.BFloat16, ScalarType.BFloat16, 2e-2)]
    [TestCase(ScalarType.Float16, ScalarType.Float16, 3e-3)]
    [TestCase(ScalarType.BFloat16, ScalarType.Float32, 2e-2)]
    [TestCase(ScalarType.Float16, ScalarType.Float32, 3e-3)]
    public void RankLora_LowerPrecision_EqualsTheTwinInDouble(ScalarType type, ScalarType weights, double tolerance)
    {
        using var scope = NewDisposeScope();
        // The caller's gates: selection is then the same in every precision.
        var options = new RankLoraOptions { Scale = 0.5, Gate = RankGate.Caller };
        var inputs = Inputs.Make(options, [9], 24, 16, 8, 3, type, weights, withBase: true);
        Tensor?[] wide = [.. inputs.Differentiable.Select(t => t?.detach().to(ScalarType.Float64).requires_grad_())];
        Tensor output = inputs.Fused(inputs.Differentiable, 3, options);
        Assert.That(output.dtype, Is.EqualTo(type));
        TensorAssert.AreCloseToScale(output, inputs.Twin(wide, 3, options), tolerance, "y");

        // Weights of the loss of 1, which every type holds exactly.
        output.sum().backward();
        MoeFunctional.ThrowPendingBackwardError();
    }

    [TestCase(ScalarType.Float32, ScalarType.Float32, 1e-5)]
    [TestCase(ScalarType.BFloat16, ScalarType.BFloat16, 2e-2)]
    [TestCase(ScalarType.Float16, ScalarType.Float16, 3e-3)]
    [TestCase(ScalarType.BFloat16, ScalarType.Float32, 2e-2)]
    [TestCase(ScalarType.Float16, ScalarType.Float32, 3e-3)]
    public void RankLora_LowerPrecisionGradients_EqualTheTwinsInDouble(ScalarType type, ScalarType weights, double tolerance)
    {
        using var scope = NewDisposeScope();
        var options = new RankLoraOptions { Scale = 0.5, Gate = RankGate.Caller };
        var inputs = Inputs.Make(options, [9], 24, 16, 8, 3, type, weights, withBase: true, leaves: false);
        Tensor?[] leaves = [.. inputs.Differentiable.Select(t => t?.detach().clone().requires_grad_())];
        Tensor?[] wide = [.. inputs.Differentiable.Select(t => t?.detach().to(ScalarType.Float64).requires_grad_())];
        inputs.Fused(leaves, 3, options).sum().backward();
        inputs.Twin(wide, 3, options).sum().backward();
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
    public void RankLora_Dropout_IsTheMaskThatTheLibraryTells([Values] bool withRouterInput)
    {
        using var scope = NewDisposeScope();
        var options = RankLoraOptions.Smora(alpha: 4, k: 3) with { DropoutP = 0.3, DropoutSeed = 123456789012345, DropoutOffset = 7 };
        var inputs = Inputs.Make(options, [11], 13, 6, 8, 3, withRouterInput: withRouterInput);
        Tensor mask = MoeFunctional.DropoutMask(11, 13, 0.3, 123456789012345, 7, dtype: ScalarType.Float64);
        Assert.That(mask.eq(0).any().item<bool>(), Is.True);
        TensorAssert.AreCloseToScale(inputs.Fused(inputs.Differentiable, 3, options), inputs.Twin(inputs.Differentiable, 3, options, mask), 1e-10);
        Tensor?[] got = GradientCheck.ByBackward(t => inputs.Fused(t, 3, options), inputs.Differentiable);
        Tensor?[] expected = GradientCheck.ByBackward(t => inputs.Twin(t, 3, options, mask), inputs.Differentiable);
        for (int i = 0; i < Names.Length; i++)
            TensorAssert.AreCloseToScale(got[i], expected[i], 1e-9, Names[i]);
    }

    [Test]
    public void RankLora_PartialRequiresGrad_GivesTheSameGradientsForTheRest()
    {
        using var scope = NewDisposeScope();
        var options = RankLoraOptions.Smora(alpha: 4, k: 3);
        var inputs = Inputs.Make(options, [5], 7, 6, 8, 3, withBase: true);
        Tensor?[] all = GradientCheck.ByBackward(t => inputs.Fused(t, 3, options), inputs.Differentiable);
        for (int set = 1; set < 1 << Names.Length; set++)
        {
            Tensor?[] some = [.. inputs.Differentiable.Select((t, i) => (set >> i & 1) != 0 ? t : t?.detach())];
            if (some.All(t => t is not { requires_grad: true }))
                continue;
            Tensor?[] got = GradientCheck.ByBackward(t => inputs.Fused(t, 3, options), some);
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
    public void RankLora_StridedInputs_EqualContiguousOnes()
    {
        using var scope = NewDisposeScope();
        var options = RankLoraOptions.Smora(alpha: 4, k: 3);
        var dense = Inputs.Make(options, [6], 7, 5, 8, 3, withBase: true);
        // Every input as a slice of a wider tensor, as a transposed one, and the gradient expanded from one number.
        foreach (bool transpose in new[] { false, true })
        {
            Tensor?[] strided = [.. dense.Differentiable.Select(t =>
            {
                if (t is null)
                    return null;
                Tensor other = transpose
                    ? t.detach().t().contiguous().t()
                    : cat([full(t.size(0), 2, double.NaN, dtype: t.dtype), t.detach(), full(t.size(0), 3, double.NaN, dtype: t.dtype)], 1).narrow(1, 2, t.size(1));
                Assert.That(other.is_contiguous(), Is.False);
                return other.requires_grad_();
            })];
            Tensor got = dense.Fused(strided, 3, options);
            TensorAssert.AreEqual(got, dense.Fused(dense.Differentiable, 3, options));
            got.sum().backward();
            Tensor?[] leaves = [.. dense.Differentiable.Select(t => t?.detach().requires_grad_())];
            dense.Fused(leaves, 3, options).sum().backward();
            MoeFunctional.ThrowPendingBackwardError();
            for (int i = 0; i < Names.Length; i++)
                TensorAssert.AreEqual(strided[i]?.grad ?? zeros(1), leaves[i]?.grad ?? zeros(1), Names[i]);
        }
    }

    [Test]
    public void RankLora_NoTokens_GivesEmptyOutputAndZeroGradients()
    {
        using var scope = NewDisposeScope();
        var options = RankLoraOptions.Smora(alpha: 4, k: 3);
        var inputs = Inputs.Make(options, [2, 0], 7, 5, 8, 3, withBase: true);
        Tensor y = inputs.Fused(inputs.Differentiable, 3, options);
        Assert.That(y.shape, Is.EqualTo(new long[] { 2, 0, 5 }));
        y.sum().backward();
        MoeFunctional.ThrowPendingBackwardError();
        Assert.That(inputs.Differentiable[1]!.grad!.abs().max().item<double>(), Is.Zero);
        Assert.That(inputs.Differentiable[0]!.grad!.shape, Is.EqualTo(new long[] { 2, 0, 7 }));
    }

    [Test]
    public void RankLora_BaseOutput_IsLeftAlone([Values] bool withGradient)
    {
        using var scope = NewDisposeScope();
        var options = RankLoraOptions.Smora(alpha: 4, k: 3);
        var inputs = Inputs.Make(options, [6], 7, 5, 8, 3, withBase: true, leaves: withGradient);
        Tensor before = inputs.Differentiable[6]!.detach().clone();
        Tensor y = inputs.Fused(inputs.Differentiable, 3, options);
        TensorAssert.AreEqual(inputs.Differentiable[6]!, before);
        Assert.That(y.requires_grad, Is.EqualTo(withGradient));
    }

    [Test]
    public void RankLora_BiasUpdatedBeforeBackward_GradientBelongsToTheForwardPass()
    {
        using var scope = NewDisposeScope();
        var options = RankLoraOptions.Smora(alpha: 4, k: 3);
        var inputs = Inputs.Make(options, [6], 7, 5, 8, 3);
        Tensor?[] expected = GradientCheck.ByBackward(t => inputs.Fused(t, 3, options), inputs.Differentiable);
        Tensor?[] leaves = [.. inputs.Differentiable.Select(t => t?.detach().clone().requires_grad_())];
        Tensor loss = GradientCheck.WeightedSum(inputs.Fused(leaves, 3, options), 1);
        inputs.Bias!.fill_(100);
        loss.backward();
        MoeFunctional.ThrowPendingBackwardError();
        for (int i = 0; i < 4; i++)
            TensorAssert.AreEqual(leaves[i]!.grad!, expected[i]!, Names[i]);
    }

    private static IEnumerable<TestCaseData> WrongCalls()
    {
        var smora = RankLoraOptions.Smora(alpha: 4, k: 2);
        TestCaseData Case(string name, string message, Func<Tensor?[], RankLoraOptions, (Tensor?[], RankLoraOptions)> change, long k = 2) =>
            new TestCaseData(change, k, message).SetArgDisplayNames(name);
        // x, a, b, router, bias, routerInput, ids, gates, base
        TestCaseData Replace(string name, int which, Func<Tensor?> make, string message, RankLoraOptions? options = null) => Case(name, message, (t, o) =>
        {
            t[which] = make();
            return (t, options ?? o);
        });
        yield return Replace("x null", 0, () => null, "x");
        yield return Replace("x width", 0, () => ones(3, 6), "x has shape [3, 6]");
        yield return Replace("x type", 0, () => ones(3, 5, dtype: ScalarType.Int64), "x is Int64");
        yield return Replace("x type beside weights", 0, () => ones(3, 5, dtype: ScalarType.Float64), "a is Float32 and x is Float64");
        yield return Replace("a null", 1, () => null, "a");
        yield return Replace("a dimensions", 1, () => ones(5), "a has shape [5]");
        yield return Replace("b null", 2, () => null, "b");
        yield return Replace("b shape", 2, () => ones(7, 3), "b has shape [7, 3]");
        yield return Replace("b type", 2, () => ones(7, 4, dtype: ScalarType.BFloat16), "b is BFloat16");
        yield return Replace("router null", 3, () => null, "router is null");
        yield return Replace("router shape", 3, () => ones(3, 5), "router has shape [3, 5]");
        yield return Replace("router unexpected", 3, () => ones(4, 5), "router is given", smora with { Gate = RankGate.ActivationSigned, BiasMode = BiasMode.Selection });
        yield return Replace("bias null", 4, () => null, "bias is null");
        yield return Replace("bias shape", 4, () => zeros(3), "bias has shape [3]");
        yield return Replace("router input width", 5, () => ones(3, 4), "routerInput has shape [3, 4]");
        yield return Replace("router input tokens", 5, () => ones(4, 5), "routerInput has 4 tokens");
        yield return Replace("ids unexpected", 6, () => zeros(3, 2, dtype: ScalarType.Int32), "ids are given");
        yield return Replace("gates unexpected", 7, () => zeros(3, 2), "gates are given");
        yield return Replace("base shape", 8, () => zeros(3, 6), "baseOutput has shape [3, 6]");
        yield return Replace("base type", 8, () => zeros(3, 7, dtype: ScalarType.Float64), "baseOutput is Float64");
        yield return Case("k 0", "1 to 4", (t, o) => (t, o), k: 0);
        yield return Case("k above r", "1 to 4", (t, o) => (t, o), k: 5);
        yield return Case("partition", "RankPartition", (t, o) => (t, o with { RankPartition = 3 }));
        yield return Case("scale", "Scale", (t, o) => (t, o with { Scale = double.NaN }));
        yield return Case("dropout", "DropoutP", (t, o) => (t, o with { DropoutP = 1 }));
        yield return Case("threshold", "Threshold", (t, o) => (t, o with { Threshold = -1 }));
        yield return Case("gate", "Gate", (t, o) => (t, o with { Gate = (RankGate)9 }));
        yield return Case("layout", "BLayout", (t, o) => (t, o with { BLayout = (BLayout)9 }));
        yield return Case("flags", "Flags", (t, o) => (t, o with { Flags = CallFlags.AccumulateGradients }));
        yield return Case("caller without ids", "ids", (t, o) =>
        {
            (t[3], t[4]) = (null, null);
            return (t, o with { Gate = RankGate.Caller, BiasMode = BiasMode.None });
        });
    }

    [TestCaseSource(nameof(WrongCalls))]
    public void RankLora_WrongArgument_IsNamed(Func<Tensor?[], RankLoraOptions, (Tensor?[], RankLoraOptions)> change, long k, string message)
    {
        using var scope = NewDisposeScope();
        Tensor?[] t = [ones(3, 5), ones(4, 5), ones(7, 4), ones(4, 5), zeros(4), null, null, null, null];
        RankLoraOptions options;
        (t, options) = change(t, RankLoraOptions.Smora(alpha: 4, k: 2));
        Assert.That(() => MoeFunctional.RankLora(t[0]!, t[1]!, t[2]!, t[3], k, options, t[4], t[5], t[6], t[7], t[8]),
            Throws.InstanceOf<ArgumentException>().With.Message.Contains(message));
    }
}
