using MoEKernels.TorchSharp.Loading;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>How functions enter libtorch's graph: as nodes of our own, and through TorchSharp's functions.</summary>
public sealed class GraphFunctionTests
{
    private delegate Tensor[] Route(GraphPlan plan, Tensor?[] inputs, Func<GraphRecord> forward);

    [Test]
    public void Nodes_AreUsable_WithTheReleaseThatTheseTestsRunOn() => Assert.That(GraphNode.IsUsable, Is.True);

    [Test]
    public void Nodes_AreTakenOnlyWithReleasesThatTheyWereTriedWith()
    {
        Assert.That(SupportedTorchSharp.HasTriedNodes(new Version(0, 107, 0, 0)), Is.True);
        Assert.That(SupportedTorchSharp.HasTriedNodes(new Version(0, 107, 1, 0)), Is.False);
        Assert.That(SupportedTorchSharp.HasTriedNodes(new Version(0, 108, 0, 0)), Is.False);
    }

    [Test]
    public void BothRoutes_GiveTheSameGradients()
    {
        using var scope = NewDisposeScope();
        manual_seed(3);
        Tensor left = randn(4, 5), right = randn(4, 5), upstream = randn(4, 5);
        Assert.Multiple(() =>
        {
            foreach (Route route in new Route[] { GraphNode.Apply, PublicFunction.Apply })
            {
                foreach ((bool first, bool second) in new[] { (true, true), (true, false), (false, true) })
                {
                    Tensor a = left.clone().requires_grad_(first), b = right.clone().requires_grad_(second);
                    Tensor[] outputs = route(new Product(), [a, null, b], () => new GraphRecord([a * b, a + b], [a, null, b]));
                    Assert.That(outputs.Select(output => output.requires_grad), Is.All.True);
                    outputs[0].backward([upstream]);
                    MoeFunctional.ThrowPendingBackwardError();
                    ExpectGradient(a, first ? upstream * right : null);
                    ExpectGradient(b, second ? upstream * left : null);
                }
            }
        });
    }

    [Test]
    public void TheOtherOutputsGradient_ComesAsNull()
    {
        using var scope = NewDisposeScope();
        foreach (Route route in new Route[] { GraphNode.Apply, PublicFunction.Apply })
        {
            Tensor a = ones(2).requires_grad_(), b = ones(2);
            var plan = new Product();
            Tensor[] outputs = route(plan, [a, null, b], () => new GraphRecord([a * b, a + b], [a, null, b]));
            outputs[1].sum().backward();
            MoeFunctional.ThrowPendingBackwardError();
            ExpectGradient(a, ones(2));
        }
    }

    [Test]
    public void NodeNeverRunBackward_IsGivenBack()
    {
        for (int i = 0; i < 3; i++)
        {
            using var scope = NewDisposeScope();
            long live = Tensor.TotalCount;
            using (NewDisposeScope())
            {
                Tensor a = ones(2).requires_grad_();
                GraphNode.Apply(new Product(), [a, null, a], () => new GraphRecord([a * a, a + a], [a, null, a]));
            }
            Assert.That(Tensor.TotalCount, Is.EqualTo(live));
        }
        Assert.That(GraphNode.FreeCount, Is.GreaterThan(0), "its callbacks serve the next one");
    }

    // A gradient that somebody else refers to is copied into the leaf's grad.
    [TestCase(GradientTakeover.LeastBytes / 4, true)]
    [TestCase(GradientTakeover.LeastBytes / 4 - 1, false)]
    public void GradientOfALargeLeaf_IsKept_NotCopied(long elements, bool kept)
    {
        using var scope = NewDisposeScope();
        Tensor a = ones(elements).requires_grad_(), b = full(elements, 3f);
        Tensor[] outputs = GraphFunction.Apply(new Product(), [a, null, b], () => new GraphRecord([a * b, a + b], [a, null, b]));
        outputs[0].sum().backward();
        MoeFunctional.ThrowPendingBackwardError();
        ExpectGradient(a, b);
        Assert.That(TensorPointer.Of(a.grad!) == TensorPointer.Of(BackwardGuard.Returned[0]), Is.EqualTo(kept));
        // And it is the leaf's own: what happens to the function's reference does not matter.
        a.grad!.mul_(2);
        Tensor[] again = GraphFunction.Apply(new Product(), [a, null, b], () => new GraphRecord([a * b, a + b], [a, null, b]));
        again[0].sum().backward();
        ExpectGradient(a, b * 3);
    }

    private static void ExpectGradient(Tensor leaf, Tensor? expected)
    {
        if (expected is null)
            Assert.That(leaf.grad, Is.Null);
        else
            TensorAssert.AreEqual(leaf.grad!, expected);
    }

    /// <summary>a * b and a + b of inputs 0 and 2; there is no input 1.</summary>
    private sealed record Product : GraphPlan
    {
        public override string Name => "The product";

        public override Tensor?[] Backward(IReadOnlyList<Tensor?> saved, IReadOnlyList<Tensor?> outputGradients)
        {
            Assert.That(saved[1], Is.Null);
            Tensor? Of(Tensor other)
            {
                Tensor? product = outputGradients[0] is { } dProduct ? dProduct * other : null;
                return outputGradients[1] is { } dSum ? product is null ? dSum.clone() : product + dSum : product;
            }
            return [Of(saved[2]!), null, Of(saved[0]!)];
        }
    }
}
