using MoEKernels.TorchSharp.Reference;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

public sealed class GateTests
{
    private static IEnumerable<TestCaseData> Options()
    {
        (string, GateOptions)[] options =
        [
            ("softmax raw", new GateOptions()),
            ("softmax to one", new GateOptions { Normalize = GateNormalize.SumToOne }),
            ("softmax to k, eps", new GateOptions { Normalize = GateNormalize.SumToK, Eps = 0.1 }),
            ("sigmoid selection bias", new GateOptions { Score = GateScore.Sigmoid, BiasMode = BiasMode.Selection, Normalize = GateNormalize.SumToOne, WeightScale = 2.5 }),
            ("sigmoid weight bias", new GateOptions { Score = GateScore.Sigmoid, BiasMode = BiasMode.Weight, Normalize = GateNormalize.SumToK }),
            ("identity, temperature", new GateOptions { Score = GateScore.Identity, Temperature = 0.5 }),
            ("softmax bias, temperature", new GateOptions { BiasMode = BiasMode.Selection, Temperature = 2 }),
            ("dense softmax", new GateOptions { Select = GateSelect.All }),
            ("dense sigmoid to one", new GateOptions { Select = GateSelect.All, Score = GateScore.Sigmoid, Normalize = GateNormalize.SumToOne }),
        ];
        return options.Select(o => new TestCaseData(o.Item2).SetArgDisplayNames(o.Item1));
    }

    private static (Tensor Logits, Tensor? Bias) Make(long[] shape, GateOptions options, ScalarType type = ScalarType.Float64)
    {
        manual_seed(11);
        Tensor logits = randn(shape, dtype: ScalarType.Float64).to(type);
        Tensor? bias = options.BiasMode == BiasMode.None ? null : randn(shape[^1], dtype: ScalarType.Float64).mul(0.1).to(TensorTypes.Accumulator(type));
        return (logits, bias);
    }

    [TestCaseSource(nameof(Options))]
    public void Gate_ShapeGrid_EqualsTheTwin(GateOptions options)
    {
        using var scope = NewDisposeScope();
        foreach ((long[] shape, long k) in new (long[], long)[] { ([1, 1], 1), ([3, 7], 2), ([17, 33], 8), ([2, 5, 9], 9), ([64], 5), ([130, 257], 3) })
        {
            foreach (ScalarType type in new[] { ScalarType.Float32, ScalarType.BFloat16, ScalarType.Float16, ScalarType.Float64 })
            {
                (Tensor logits, Tensor? bias) = Make(shape, options, type);
                bool dense = options.Select == GateSelect.All;
                GateResult got = MoeFunctional.Gate(logits, dense ? 0 : k, options, bias, withLogSumExp: true);
                // Rounded logits tie, and topk breaks ties as it likes: compare what the ids select, not the ids.
                GateResult expected = ReferenceOps.Gate(logits.to(ScalarType.Float64), k, options, bias?.to(ScalarType.Float64), withLogSumExp: true);
                string what = $"[{string.Join(", ", shape)}] k {k} {type}";
                TensorAssert.AreClose(got.Weights, expected.Weights, 2e-6, 2e-7, what);
                TensorAssert.AreClose(got.LogSumExp, expected.LogSumExp, 1e-6, 1e-6, what);
                Assert.That(got.Weights.dtype, Is.EqualTo(TensorTypes.Accumulator(type)));
                if (dense)
                {
                    Assert.That(got.Ids, Is.Null);
                    continue;
                }
                Tensor z = options.Score == GateScore.Sigmoid || options.BiasMode == BiasMode.None ? logits.to(ScalarType.Float64) : null!;
                if (z is not null && options.BiasMode == BiasMode.None)
                    TensorAssert.AreEqual(z.gather(-1, got.Ids!.to(ScalarType.Int64)), z.gather(-1, expected.Ids!), what);
                TensorAssert.AreEqual(got.Counts!, got.Ids!.flatten().to(ScalarType.Int64).bincount(null, minlength: shape[^1]), what);
            }
        }
    }

    [TestCaseSource(nameof(Options))]
    public void Gate_Gradients_EqualTheTwinsAndDifferences(GateOptions options)
    {
        using var scope = NewDisposeScope();
        (Tensor logits, Tensor? bias) = Make([4, 3, 7], options);
        logits.requires_grad_();
        long k = options.Select == GateSelect.All ? 7 : 3;
        Tensor Run(Func<Tensor, long, GateOptions, Tensor?, bool, GateResult> gate, Tensor?[] inputs)
        {
            GateResult result = gate(inputs[0]!, k, options, bias, true);
            return cat([result.Weights, result.LogSumExp!.unsqueeze(-1)], dim: -1);
        }
        Tensor?[] got = GradientCheck.ByBackward(t => Run(MoeFunctional.Gate, t), [logits]);
        Tensor?[] expected = GradientCheck.ByBackward(t => Run(ReferenceOps.Gate, t), [logits]);
        TensorAssert.AreClose(got[0], expected[0], 1e-10, 1e-12, "dlogits");
        GradientCheck.AgainstDifferences(t => Run(MoeFunctional.Gate, t), [logits], ["logits"]);
    }

    [Test]
    public void Gate_OnlyOneOutputUsed_GivesThatGradient([Values] bool useWeights)
    {
        using var scope = NewDisposeScope();
        (Tensor logits, _) = Make([5, 6], default);
        logits.requires_grad_();
        Tensor Pick(GateResult result) => useWeights ? result.Weights : result.LogSumExp!;
        Tensor? got = GradientCheck.ByBackward(t => Pick(MoeFunctional.Gate(t[0]!, 2, withLogSumExp: true)), [logits])[0];
        Tensor? expected = GradientCheck.ByBackward(t => Pick(ReferenceOps.Gate(t[0]!, 2, withLogSumExp: true)), [logits])[0];
        TensorAssert.AreClose(got, expected, 1e-10, 1e-12);
    }

    [Test]
    public void Gate_StridedTransposedAndExpandedLogits_EqualContiguousOnes()
    {
        using var scope = NewDisposeScope();
        manual_seed(2);
        Tensor wide = randn(6, 20);
        Tensor[] inputs = [wide.narrow(1, 3, 9), randn(9, 6).t(), randn(1, 9).expand(6, 9), randn(2, 9, 3).transpose(1, 2)];
        foreach (Tensor logits in inputs)
        {
            Assert.That(logits.is_contiguous(), Is.False);
            Tensor leaf = logits.detach().requires_grad_();
            Tensor dense = logits.detach().contiguous().requires_grad_();
            Tensor got = MoeFunctional.Gate(leaf, 4).Weights;
            Tensor expected = MoeFunctional.Gate(dense, 4).Weights;
            TensorAssert.AreEqual(got, expected);
            // A gradient of stride 0, as sum() makes it.
            got.sum().backward();
            expected.sum().backward();
            TensorAssert.AreEqual(leaf.grad!, dense.grad!);
        }
    }

    [Test]
    public void Gate_NoTokens_GivesEmptyResultsAndGradients()
    {
        using var scope = NewDisposeScope();
        Tensor logits = empty(0, 5).requires_grad_();
        GateResult result = MoeFunctional.Gate(logits, 2, withLogSumExp: true);
        Assert.That(result.Weights.shape, Is.EqualTo(new long[] { 0, 2 }));
        Assert.That(result.Counts!.data<int>().ToArray(), Is.EqualTo(new int[5]));
        result.Weights.sum().backward();
        MoeFunctional.ThrowPendingBackwardError();
        Assert.That(logits.grad!.shape, Is.EqualTo(new long[] { 0, 5 }));
    }

    [Test]
    public void Gate_TiesAndNaN_FollowTheRules()
    {
        using var scope = NewDisposeScope();
        float nan = float.NaN, inf = float.PositiveInfinity;
        Tensor logits = tensor(new[,] { { 1f, 2, 2, 1 }, { nan, 1, nan, 0 }, { nan, nan, -inf, nan } }).requires_grad_();
        GateResult result = MoeFunctional.Gate(logits, 2, new GateOptions { Normalize = GateNormalize.SumToOne }, withLogSumExp: true);
        int[] ids = result.Ids!.data<int>().ToArray();
        Assert.That(ids[..2], Is.EqualTo(new[] { 1, 2 }), "the lower id first");
        Assert.That(ids[2..4], Is.EqualTo(new[] { 1, 3 }), "NaN never wins");
        Assert.That(ids[4..6].Distinct().Count(), Is.EqualTo(2));
        float[] weights = result.Weights.data<float>().ToArray();
        Assert.That(weights[..2], Is.EqualTo(new[] { 0.5f, 0.5f }));
        Assert.That(weights[4..6], Is.EqualTo(new[] { 0f, 0f }));
        Assert.That(result.LogSumExp!.data<float>().ToArray()[2], Is.EqualTo(float.NegativeInfinity));
        result.Weights.sum().backward();
        Assert.That(logits.grad!.isfinite().all().item<bool>(), Is.True);
        Assert.That(() => MoeFunctional.Gate(logits.detach(), 2, new GateOptions { Flags = CallFlags.Strict }), Throws.InstanceOf<MoeNumericException>());
    }

    [Test]
    public void Gate_NothingRequiresGradient_MakesNoGraph()
    {
        using var scope = NewDisposeScope();
        Tensor logits = randn(4, 5);
        Assert.That(MoeFunctional.Gate(logits, 2).Weights.requires_grad, Is.False);
        logits.requires_grad_();
        using (no_grad())
            Assert.That(MoeFunctional.Gate(logits, 2).Weights.requires_grad, Is.False);
        Assert.That(MoeFunctional.Gate(logits, 2).Weights.requires_grad, Is.True);
        Assert.That(MoeFunctional.Gate(logits, 2).Ids!.requires_grad, Is.False);
    }

    [Test]
    public void UpdateGateBias_MovesAgainstTheLoad()
    {
        using var scope = NewDisposeScope();
        Tensor bias = zeros(4);
        Tensor counts = tensor(new[] { 4, 2, 0, 2 }, dtype: ScalarType.Int32);
        MoeFunctional.UpdateGateBias(bias, counts, 0.25);
        Assert.That(bias.data<float>().ToArray(), Is.EqualTo(new[] { -0.25f, 0, 0.25f, 0 }));
        MoeFunctional.UpdateGateBias(bias, counts, 0.25, target: 3);
        Assert.That(bias.data<float>().ToArray(), Is.EqualTo(new[] { -0.5f, 0.25f, 0.5f, 0.25f }));
    }

    private static IEnumerable<TestCaseData> WrongCalls()
    {
        static TestCaseData Case(string name, Action call, string message) => new TestCaseData(call, message).SetArgDisplayNames(name);
        yield return Case("integer logits", () => MoeFunctional.Gate(ones(2, 3, dtype: ScalarType.Int32), 1), "Int32");
        yield return Case("no dimension", () => MoeFunctional.Gate(tensor(1f), 1), "no dimension");
        yield return Case("no experts", () => MoeFunctional.Gate(ones(2, 0), 1), "1 to 4096");
        yield return Case("too many experts", () => MoeFunctional.Gate(ones(1, 4097), 1), "1 to 4096");
        yield return Case("k 0", () => MoeFunctional.Gate(ones(2, 3), 0), "1 to 3");
        yield return Case("k above E", () => MoeFunctional.Gate(ones(2, 3), 4), "1 to 3");
        yield return Case("dense k", () => MoeFunctional.Gate(ones(2, 3), 2, new GateOptions { Select = GateSelect.All }), "0 or 3");
        yield return Case("bias missing", () => MoeFunctional.Gate(ones(2, 3), 1, new GateOptions { BiasMode = BiasMode.Weight }), "bias is null");
        yield return Case("bias unexpected", () => MoeFunctional.Gate(ones(2, 3), 1, bias: ones(3)), "bias is given");
        yield return Case("bias shape", () => MoeFunctional.Gate(ones(2, 3), 1, new GateOptions { BiasMode = BiasMode.Weight }, ones(2)), "[E] = [3]");
        yield return Case("bias type", () => MoeFunctional.Gate(ones(2, 3), 1, new GateOptions { BiasMode = BiasMode.Weight }, ones(3, dtype: ScalarType.Float64)), "Float64");
        yield return Case("eps", () => MoeFunctional.Gate(ones(2, 3), 1, new GateOptions { Eps = -1 }), "Eps");
        yield return Case("temperature", () => MoeFunctional.Gate(ones(2, 3), 1, new GateOptions { Temperature = double.NaN }), "Temperature");
        yield return Case("scale", () => MoeFunctional.Gate(ones(2, 3), 1, new GateOptions { WeightScale = double.PositiveInfinity }), "WeightScale");
        yield return Case("score", () => MoeFunctional.Gate(ones(2, 3), 1, new GateOptions { Score = (GateScore)9 }), "Score");
        yield return Case("flags", () => MoeFunctional.Gate(ones(2, 3), 1, new GateOptions { Flags = CallFlags.AccumulateOutput }), "Flags");
        yield return Case("counts type", () => MoeFunctional.UpdateGateBias(zeros(3), zeros(3), 0.1), "Int32");
        yield return Case("counts shape", () => MoeFunctional.UpdateGateBias(zeros(3), zeros(2, dtype: ScalarType.Int32), 0.1), "counts has shape [2]");
        yield return Case("bias not contiguous", () => MoeFunctional.UpdateGateBias(zeros(3, 2).narrow(1, 0, 1).squeeze(1), zeros(3, dtype: ScalarType.Int32), 0.1), "not contiguous");
        yield return Case("rate", () => MoeFunctional.UpdateGateBias(zeros(3), zeros(3, dtype: ScalarType.Int32), double.NaN), "rate");
    }

    [TestCaseSource(nameof(WrongCalls))]
    public void Gate_WrongArgument_IsNamed(Action call, string message)
    {
        using var scope = NewDisposeScope();
        Assert.That(call, Throws.InstanceOf<ArgumentException>().With.Message.Contains(message));
    }
}
