using TorchSharp;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

public sealed class TopKGateTests
{
    private static readonly GateOptions DeepSeek = new() { Score = GateScore.Sigmoid, BiasMode = BiasMode.Selection, Normalize = GateNormalize.SumToOne };

    [Test]
    public void Forward_EqualsTheReference([Values] AdapterImplementation implementation)
    {
        using var scope = NewDisposeScope();
        manual_seed(3);
        using var gate = new TopKGate(9, 6, 2, DeepSeek);
        Tensor x = randn(2, 4, 9);
        gate.Implementation = implementation;
        GateResult result = gate.call(x);
        (Tensor values, Tensor ids) = nn.functional.linear(x, gate.get_parameter("weight")!).sigmoid().topk(2);
        TensorAssert.AreEqual(result.Ids!.to(ScalarType.Int64), ids);
        TensorAssert.AreClose(result.Weights, values / values.sum(-1, keepdim: true), 1e-5, 1e-6);
        Assert.That(result.LogSumExp!.shape, Is.EqualTo(new long[] { 2, 4 }));
    }

    [Test]
    public void Backward_ReachesTheWeight()
    {
        using var scope = NewDisposeScope();
        using var gate = new TopKGate(9, 6, 2);
        GateResult result = gate.call(randn(4, 9));
        (result.Weights.sum() + result.LogSumExp!.square().sum()).backward();
        MoeFunctional.ThrowPendingBackwardError();
        Assert.That(gate.get_parameter("weight")!.grad!.abs().sum().item<float>(), Is.GreaterThan(0));
    }

    [Test]
    public void UpdateRouterBias_MovesAgainstTheLoadAndSurvivesTypes()
    {
        using var scope = NewDisposeScope();
        using var gate = new TopKGate(3, 4, 1, DeepSeek);
        using (no_grad())
        {
            gate.get_parameter("weight")!.fill_(-1);
            gate.get_parameter("weight")![1] = 1;
        }
        gate.call(ones(5, 3));
        Assert.That(gate.GetLoadCounts(), Is.EqualTo(new[] { 0, 5, 0, 0 }));
        gate.UpdateRouterBias(0.25);
        gate.to(ScalarType.BFloat16);
        Assert.That(gate.get_buffer("load_bias")!.dtype, Is.EqualTo(ScalarType.Float32));
        Assert.That(gate.get_buffer("load_bias")!.data<float>().ToArray(), Is.EqualTo(new[] { 0.25f, -0.25f, 0.25f, 0.25f }));
        Assert.That(gate.call(ones(5, 3, dtype: ScalarType.BFloat16)).Ids!.data<int>().ToArray(), Is.All.EqualTo(1));
    }

    [Test]
    public void TrackRouting_SumsUp()
    {
        using var scope = NewDisposeScope();
        using var sparse = new TopKGate(3, 4, 2) { TrackRouting = true };
        using var dense = new TopKGate(3, 4, 0, new GateOptions { Select = GateSelect.All }) { TrackRouting = true };
        sparse.call(randn(5, 3));
        dense.call(randn(5, 3));
        Assert.That(sparse.GetRoutingTotals().Sum(), Is.EqualTo(10));
        Assert.That(dense.GetRoutingTotals().Sum(), Is.EqualTo(5).Within(1e-5));
    }

    [Test]
    public void Constructor_WrongArguments_AreNamed()
    {
        Assert.That(() => new TopKGate(0, 4, 1), Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => new TopKGate(3, 5000, 1), Throws.InstanceOf<ArgumentOutOfRangeException>().With.Message.Contains("experts"));
        Assert.That(() => new TopKGate(3, 4, 5), Throws.InstanceOf<ArgumentOutOfRangeException>().With.Message.Contains("k"));
        Assert.That(() => new TopKGate(3, 4, 1, dtype: ScalarType.Int32), Throws.ArgumentException.With.Message.Contains("Int32"));
        using var gate = new TopKGate(3, 4, 1);
        Assert.That(() => gate.UpdateRouterBias(), Throws.InvalidOperationException);
    }
}
