using MoEKernels.TorchSharp.Reference;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>The twins against vectors worked out by hand and against what the formulas imply.</summary>
public sealed class ReferenceOpsTests
{
    private const double Digits = 1e-9;

    private static Tensor Matrix(double[,] values) => tensor(values, dtype: ScalarType.Float64);

    private static Tensor Leaf(double[,] values) => Matrix(values).requires_grad_();

    [Test]
    public void RankLora_HandVector_Smora()
    {
        using var scope = NewDisposeScope();
        Tensor x = Leaf(HandVectors.SmoraX), a = Leaf(HandVectors.SmoraA), b = Leaf(HandVectors.SmoraB), router = Leaf(HandVectors.SmoraRouter);
        Tensor bias = tensor(HandVectors.SmoraBias, dtype: ScalarType.Float64);
        RankLoraResult result = ReferenceOps.RankLora(x, a, b, router, 2, RankLoraOptions.Smora(alpha: 4, k: 2), bias);
        HandVectors.CheckSmora(result.Output, result.Ids, result.Gates, [x, a, b, router], Digits);
    }

    [TestCase(CoreMergeForm.Stacked)]
    [TestCase(CoreMergeForm.Einsum)]
    public void CoreMerge_HandVector_Comol(CoreMergeForm form)
    {
        using var scope = NewDisposeScope();
        Tensor x = Leaf(HandVectors.ComolX), a = Leaf(HandVectors.ComolA), b = Leaf(HandVectors.ComolB), router = Leaf(HandVectors.ComolRouter);
        Tensor cores = tensor(HandVectors.ComolCores, [2, 2, 2], dtype: ScalarType.Float64).requires_grad_();
        CoreMergeResult result = ReferenceOps.CoreMerge(x, a, b, cores, router, new CoreMergeOptions { Scale = 1 }, form: form);
        HandVectors.CheckComol(result.Output, result.Mixture, [x, a, b, cores, router], Digits);
    }

    [Test]
    public void CoreMerge_BothForms_AgreeForBothRouters([Values] bool fromInput, [Values(1, 2, 5)] long experts)
    {
        using var scope = NewDisposeScope();
        manual_seed(3);
        (long tokens, long dIn, long dOut, long rank) = (7, 5, 4, 3);
        Tensor x = randn(tokens, dIn), a = randn(rank, dIn), b = randn(dOut, rank), cores = randn(experts, rank, rank);
        Tensor router = randn(experts, fromInput ? dIn : rank);
        var options = new CoreMergeOptions { Scale = 0.5, Router = fromInput ? CoreRouter.Input : CoreRouter.Core };
        Tensor stacked = ReferenceOps.CoreMerge(x, a, b, cores, router, options).Output;
        Tensor einsum = ReferenceOps.CoreMerge(x, a, b, cores, router, options, form: CoreMergeForm.Einsum).Output;
        TensorAssert.AreClose(stacked, einsum, 1e-5, 1e-5);
    }

    [Test]
    public void CoreMerge_DropoutOnTheMergedCore_ScalesWhatIsKept()
    {
        using var scope = NewDisposeScope();
        manual_seed(5);
        Tensor x = ones(4000, 1), a = ones(2, 1), b = ones(1, 2), cores = ones(1, 2, 2), router = zeros(1, 2);
        Tensor y = ReferenceOps.CoreMerge(x, a, b, cores, router, new CoreMergeOptions { Scale = 1 }, form: CoreMergeForm.Einsum, mergedCoreDropoutP: 0.5).Output;
        // Four entries of a merged core, each 0 or 2.
        Assert.That(y.unique().output.data<float>().ToArray().Order(), Is.EqualTo(new[] { 0f, 2f, 4f, 6f, 8f }));
        Assert.That(y.mean().item<float>(), Is.EqualTo(4f).Within(0.2));
    }

    [Test]
    public void CoreMerge_DropoutOnTheMergedCoreWhenStacked_Throws()
    {
        using var scope = NewDisposeScope();
        Assert.That(() => ReferenceOps.CoreMerge(ones(1, 1), ones(1, 1), ones(1, 1), ones(1, 1, 1), ones(1, 1), new CoreMergeOptions { Scale = 1 }, mergedCoreDropoutP: 0.1),
            Throws.ArgumentException);
    }

    [Test]
    public void Gate_SoftmaxOverSelected_EqualsRenormalisedSoftmax()
    {
        using var scope = NewDisposeScope();
        manual_seed(4);
        Tensor logits = randn(9, 6, dtype: ScalarType.Float64);
        foreach (GateNormalize normalize in new[] { GateNormalize.SumToOne, GateNormalize.SumToK })
        {
            GateResult fast = ReferenceOps.Gate(logits, 3, new GateOptions { Normalize = normalize, Temperature = 0.7 });
            (Tensor values, Tensor ids) = (logits / 0.7).softmax(-1).topk(3);
            Tensor expected = values / values.sum(-1, keepdim: true) * (normalize == GateNormalize.SumToK ? 3 : 1);
            TensorAssert.AreEqual(fast.Ids!, ids);
            TensorAssert.AreClose(fast.Weights, expected, 1e-12, 0);
        }
    }

    [Test]
    public void RankLora_AllRanksNoBiasNoRouterWeight_IsPlainLora()
    {
        using var scope = NewDisposeScope();
        manual_seed(6);
        Tensor x = randn(3, 2, 5), a = randn(4, 5), b = randn(6, 4);
        Tensor y = ReferenceOps.RankLora(x, a, b, zeros(4, 5), 4, RankLoraOptions.Smora(alpha: 8, k: 4), zeros(4)).Output;
        TensorAssert.AreClose(y, ReferenceOps.Lora(x, a, b, 8.0 / 4), 1e-5, 1e-5);
    }
}
