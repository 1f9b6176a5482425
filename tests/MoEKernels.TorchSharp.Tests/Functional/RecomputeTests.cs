using System.Globalization;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>Recomputation changes memory and nothing else.</summary>
public sealed class RecomputeTests
{
    private const long Width = 6;

    /// <summary>Blocks with dropout and, when asked for, each of them recomputed; a gate with auxiliary losses in the middle.</summary>
    private sealed class Stack : nn.Module<Tensor, Tensor>
    {
        public readonly ModuleList<TestBlock> blocks;
        public readonly TopKGate gate;
        public readonly nn.Module<Tensor, Tensor> dropout;

        public Stack(int depth = 3)
            : base(nameof(Stack))
        {
            blocks = nn.ModuleList(Enumerable.Range(0, depth).Select(_ => new TestBlock(Width)).ToArray());
            gate = new TopKGate(Width, 4, 2, new GateOptions { Score = GateScore.Sigmoid, BiasMode = BiasMode.Selection, Normalize = GateNormalize.SumToOne });
            dropout = nn.Dropout(0.3);
            RegisterComponents();
        }

        public enum Form
        {
            Plain,
            Recomputed,
            Nested,
        }

        public Form How { get; set; }

        public override Tensor forward(Tensor input) =>
            How == Form.Nested ? Recompute.Run(Part, input) : Part(input);

        private Tensor Part(Tensor input)
        {
            using var scope = NewDisposeScope();
            Tensor x = input;
            foreach (TestBlock block in blocks)
                x = How == Form.Plain ? Gated(block, x) : Recompute.Run(inner => Gated(block, inner), x);
            return x.MoveToOuterDisposeScope();
        }

        private Tensor Gated(TestBlock block, Tensor input)
        {
            using var scope = NewDisposeScope();
            Tensor x = dropout.call(block.call(input));
            GateResult result = gate.call(x);
            return (x * result.Weights.square().sum(-1, keepdim: true)).MoveToOuterDisposeScope();
        }
    }

    private static Stack NewStack()
    {
        manual_seed(5);
        var model = new Stack();
        model.AddAdapter("smora", new SMoRAConfig { Rank = 8, ActiveRanks = 3, Dropout = 0.2, TargetModules = ["query"] });
        model.AddAdapter("comol", new CoMoLConfig { Rank = 4, Experts = 3, TargetModules = ["value"] });
        model.AddAdapter("lora", new LoRAConfig { Rank = 2, Dropout = 0.4, TargetModules = ["up", "down"], ModulesToSave = ["gate"] });
        model.SetAdapter("smora", "comol", "lora");
        using (no_grad())
        {
            foreach ((_, Parameter parameter) in model.AdapterParameters())
                nn.init.normal_(parameter, 0, 0.4);
        }
        foreach (nn.Module module in model.modules())
        {
            if (module is IRoutedModule routed)
                routed.TrackRouting = true;
        }
        (model.gate.BalanceLossFactor, model.gate.ZLossFactor) = (0.5, 0.25);
        return model;
    }

    private static Dictionary<string, Tensor> Step(Stack model, Stack.Form form, bool inputRequiresGrad = true)
    {
        model.How = form;
        model.zero_grad();
        manual_seed(9);
        Tensor x = randn(7, Width);
        if (inputRequiresGrad)
            x.requires_grad_();
        using RouterTrace trace = RouterTrace.Record(model);
        Tensor y = model.call(x);
        Tensor auxiliary = model.AuxiliaryLoss();
        (y.square().sum() + auxiliary).backward();
        MoeFunctional.ThrowPendingBackwardError();

        var seen = model.AdapterParameters().ToDictionary(p => p.name, p => p.parameter.grad!.clone());
        seen.Add("y", y.detach());
        seen.Add("auxiliary loss", auxiliary.detach());
        if (inputRequiresGrad)
            seen.Add("dx", x.grad!);
        seen.Add("the next random number", rand(1));
        seen.Add("auxiliary loss afterwards", model.AuxiliaryLoss().detach());
        foreach ((string path, RouterTraceLayer layer) in trace.Layers)
            seen.Add($"tokens of {path}", tensor(layer.TokenCount));
        foreach ((string path, nn.Module module) in model.named_modules())
        {
            if (module is IRoutedModule routed && !seen.ContainsKey($"totals of {path}"))
            {
                seen.Add($"totals of {path}", tensor(routed.GetRoutingTotals()));
                routed.ResetRoutingTotals();
            }
            if (module is SMoRALinear smora)
                seen.Add($"counts of {path}", tensor(smora.GetLoadCounts()));
        }
        seen.Add("counts of the gate", tensor(model.gate.GetLoadCounts()));
        model.UpdateRouterBiases();
        foreach ((string name, Tensor buffer) in model.named_buffers())
            seen.Add($"buffer {name}", buffer.clone());
        using (no_grad())
        {
            foreach ((string name, Tensor buffer) in model.named_buffers())
                buffer.zero_();
        }
        return seen;
    }

    [Test]
    public void Step_EqualsThatWithoutRecomputation_ToTheBit([Values(1, 2)] int form, [Values] bool inputRequiresGrad)
    {
        using var scope = NewDisposeScope();
        using Stack model = NewStack();
        Dictionary<string, Tensor> expected = Step(model, Stack.Form.Plain, inputRequiresGrad);
        Dictionary<string, Tensor> got = Step(model, (Stack.Form)form, inputRequiresGrad);
        Assert.That(got.Keys, Is.EqualTo(expected.Keys));
        Assert.That(expected["auxiliary loss"].item<float>(), Is.GreaterThan(0));
        Assert.That(expected["auxiliary loss afterwards"].item<float>(), Is.Zero);
        foreach ((string name, Tensor value) in expected)
        {
            // The gate is in every part, so its gradients are summed in another order.
            if (name.StartsWith("gate.", StringComparison.Ordinal))
                TensorAssert.AreCloseToScale(got[name], value, 1e-6, name);
            else
                TensorAssert.AreEqual(got[name], value, name);
        }
    }

    [Test]
    public void Run_Module_EqualsTheCall_ToTheBit([Values(ScalarType.Float32, ScalarType.BFloat16)] ScalarType type)
    {
        using var scope = NewDisposeScope();
        manual_seed(3);
        using var block = new TestBlock(Width);
        block.to(type);
        block.AddAdapter(new SMoRAConfig { Rank = 8, ActiveRanks = 2, Dropout = 0.5 });
        using (no_grad())
        {
            foreach ((_, Parameter parameter) in block.AdapterParameters())
                nn.init.normal_(parameter);
        }
        Tensor x = randn(2, 4, Width).to(type), weights = randn(2, 4, Width).to(type);
        Tensor[] Gradients(Func<Tensor, Tensor> run)
        {
            manual_seed(4);
            block.zero_grad();
            Tensor leaf = x.detach().clone().requires_grad_();
            run(leaf).backward([weights]);
            MoeFunctional.ThrowPendingBackwardError();
            return [leaf.grad!, .. block.AdapterParameters().Select(p => p.parameter.grad!.clone())];
        }
        foreach ((Tensor got, Tensor expected) in Gradients(leaf => Recompute.Run(block, leaf)).Zip(Gradients(block.call)))
            TensorAssert.AreEqual(got, expected);
    }

    [Test]
    public void Run_SeveralInputs_GradientsGoWhereTheyAreWanted()
    {
        using var scope = NewDisposeScope();
        Tensor a = randn(3, 4, requires_grad: true), b = randn(3, 4), c = randn(3, 4, requires_grad: true);
        Tensor unused = randn(2, requires_grad: true), ids = tensor([2L, 0, 1]);
        // a's history is part of the graph outside.
        Tensor y = Recompute.Run(t => (t[0] * t[1]).exp().index_select(0, t[4]) + t[2].square(), a * 2, b, c, unused, ids);
        y.backward([ones_like(y)]);
        MoeFunctional.ThrowPendingBackwardError();
        using (no_grad())
        {
            TensorAssert.AreClose(a.grad, (a * 2 * b).exp() * b * 2, 1e-6, 1e-6);
            TensorAssert.AreClose(c.grad, c * 2, 1e-6, 0);
        }
        Assert.That(unused.grad is null && b.grad is null, Is.True);
    }

    [Test]
    public void Run_WithoutGradients_IsTheCallAlone()
    {
        using var scope = NewDisposeScope();
        using var block = new TestBlock(Width);
        Tensor x = randn(3, Width);
        int calls = 0;
        Tensor Count(Tensor t)
        {
            calls++;
            Assert.That(Recompute.IsRecomputing, Is.False);
            return block.call(t);
        }
        using (no_grad())
            Assert.That(Recompute.Run(Count, x).requires_grad, Is.False);
        using (inference_mode())
            TensorAssert.AreEqual(Recompute.Run(Count, x), block.call(x));
        Assert.That(calls, Is.EqualTo(2));
        foreach (Parameter parameter in block.parameters())
            parameter.requires_grad = false;
        Assert.That(Recompute.Run(block, x).requires_grad, Is.False, "nothing to train");
        Assert.That(Recompute.Run(block, x.detach().clone().requires_grad_()).requires_grad, Is.True);
        Assert.That(Recompute.Run(block, zeros(0, Width)).shape, Is.EqualTo(new[] { 0, Width }));
    }

    [Test]
    public void Run_BackwardTwiceAndPartsThatNobodyUses()
    {
        using var scope = NewDisposeScope();
        using var block = new TestBlock(Width);
        Tensor x = randn(3, Width, requires_grad: true);
        Tensor y = Recompute.Run(block, x);
        y.backward([ones_like(y)], retain_graph: true);
        Tensor once = x.grad!.clone();
        y.backward([ones_like(y)]);
        TensorAssert.AreEqual(x.grad!, once * 2);
        // The input itself as the result.
        Tensor z = Recompute.Run(t => t, x);
        Assert.That(z, Is.Not.SameAs(x));
        x.grad!.zero_();
        z.sum().backward();
        TensorAssert.AreEqual(x.grad!, ones_like(x));
        MoeFunctional.ThrowPendingBackwardError();
    }

    [Test]
    public void Run_OnlyTheAuxiliaryLossIsUsed_GradientsFlow()
    {
        using var scope = NewDisposeScope();
        using var gate = new TopKGate(Width, 4, 2) { ZLossFactor = 1 };
        Tensor x = randn(5, Width);
        Tensor Loss(bool recompute)
        {
            gate.zero_grad();
            Func<Tensor, Tensor> part = t => gate.call(t).Weights.detach();
            _ = recompute ? Recompute.Run(part, x) : part(x);
            Tensor loss = gate.TakeAuxiliaryLoss()!;
            loss.backward();
            MoeFunctional.ThrowPendingBackwardError();
            return gate.get_parameter("weight")!.grad!.clone();
        }
        TensorAssert.AreEqual(Loss(recompute: true), Loss(recompute: false));
        Assert.That(gate.TakeAuxiliaryLoss(), Is.Null);
    }

    [Test]
    public void Run_PartThatDiffersTheSecondTime_IsAPendingError()
    {
        using var scope = NewDisposeScope();
        int calls = 0;
        Tensor x = randn(3, Width, requires_grad: true);
        Recompute.Run(t => (calls++ == 0 ? t : t.narrow(0, 0, 2)) * 1, x).sum().backward();
        Assert.That(MoeFunctional.ThrowPendingBackwardError, Throws.InstanceOf<MoeBackwardException>().With.Message.Contains("[2, 6]").And.Message.Contains("[3, 6]"));
        Assert.That(x.grad, Is.Null);
        calls = 0;
        Recompute.Run(t => calls++ == 0 ? t * 1 : throw new InvalidOperationException("on purpose"), x).sum().backward();
        Assert.That(() => Recompute.Run(t => t * 1, x), Throws.InstanceOf<MoeBackwardException>().With.Message.Contains("on purpose"));
        using var gate = new TopKGate(Width, 4, 2) { ZLossFactor = 1 };
        calls = 0;
        Tensor Once(Tensor t)
        {
            if (calls++ == 0)
                gate.call(t);
            return t * 1;
        }
        Recompute.Run(Once, x).sum().backward();
        Assert.That(MoeFunctional.ThrowPendingBackwardError, Throws.InstanceOf<MoeBackwardException>().With.Message.Contains("0 auxiliary losses, the first 1"));
        gate.TakeAuxiliaryLoss();
        Assert.That(Recompute.IsRecomputing, Is.False);
    }

    [Test]
    public void Run_BadArguments_AreNamed_AndAFailingPartLeavesNothingBehind()
    {
        using var scope = NewDisposeScope();
        Tensor x = randn(2, Width);
        Assert.That(() => Recompute.Run((nn.Module<Tensor, Tensor>)null!, x), Throws.ArgumentNullException);
        Assert.That(() => Recompute.Run((Func<Tensor, Tensor>)null!, x), Throws.ArgumentNullException);
        Assert.That(() => Recompute.Run((Tensor t) => t, null!), Throws.ArgumentNullException);
        Assert.That(() => Recompute.Run(t => t[0]), Throws.ArgumentException.With.Message.Contains("at least one"));
        Assert.That(() => Recompute.Run(t => t[0], x, null!), Throws.ArgumentNullException.With.Message.Contains("inputs[1]"));
        Assert.That(() => Recompute.Run((Tensor t) => (Tensor)null!, x), Throws.InvalidOperationException.With.Message.Contains("null"));
        Assert.That(() => Recompute.Run((Tensor _) => throw new NotSupportedException("mine"), x), Throws.InstanceOf<NotSupportedException>());
        Assert.That(RecomputePass.Current, Is.Null);
        Assert.That(is_grad_enabled(), Is.True);
    }

    [Test]
    public void Memory_BetweenForwardAndBackward_IsThatOfTheInputs()
    {
        long plain = Measure(recompute: false), recomputed = Measure(recompute: true);
        // Three parts of four operations: twelve results of 40 MiB each, or the three that leave a part.
        const long Result = 40 * 1024;
        Assert.That(plain, Is.GreaterThan(11 * Result));
        Assert.That(recomputed, Is.LessThan(4 * Result));

        static long Measure(bool recompute)
        {
            (int exitCode, string output) = ChildProcess.Run(Program.Activations, recompute.ToString(CultureInfo.InvariantCulture));
            Assert.That(exitCode, Is.Zero, output);
            return long.Parse(output, CultureInfo.InvariantCulture);
        }
    }
}
