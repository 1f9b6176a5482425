using System.Text.Json;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>What models with routers offer as a whole: traces, load balancing, auxiliary losses, reports.</summary>
public sealed class RoutingTests
{
    /// <summary>A model with a gate of its own, which no adapter made.</summary>
    private sealed class GatedModel : nn.Module<Tensor, Tensor>
    {
        public readonly nn.Module<Tensor, Tensor> fc;
        public readonly TopKGate gate;

        public GatedModel(GateOptions options)
            : base(nameof(GatedModel))
        {
            fc = nn.Linear(6, 6);
            gate = new TopKGate(6, 4, 2, options);
            RegisterComponents();
        }

        public override Tensor forward(Tensor input)
        {
            using var scope = NewDisposeScope();
            Tensor x = fc.call(input);
            GateResult result = gate.call(x);
            return (x * result.Weights.sum(dim: -1, keepdim: true)).MoveToOuterDisposeScope();
        }
    }

    [Test]
    public void Trace_SMoRAAndCoMoLAndGate_WritesDownEveryToken([Values] AdapterImplementation implementation)
    {
        using var scope = NewDisposeScope();
        using var model = new TestModel();
        AdapterHandle smora = model.AddAdapter("s", new SMoRAConfig { Rank = 8, ActiveRanks = 3, TargetModules = ["query"] });
        AdapterHandle comol = model.AddAdapter("c", new CoMoLConfig { Rank = 4, Experts = 3, Dropout = 0, CoreDropout = 0, TargetModules = ["head"] });
        smora.SetImplementation(implementation);
        comol.SetImplementation(implementation);
        model.SetAdapter("s", "c");
        using RouterTrace trace = RouterTrace.Record(model);
        Assert.That(trace.Layers.Keys, Is.EquivalentTo(new[] { "blocks.0.query.s", "blocks.1.query.s", "head.c" }));
        RouterTraceLayer query = trace.Layers["blocks.0.query.s"], head = trace.Layers["head.c"];
        Assert.That((query.TokenCount, query.K), Is.EqualTo((0, 0)));
        Assert.That(query.ChoiceShares(), Is.EqualTo(new double[8]));

        foreach (nn.Module module in model.modules())
        {
            if (module is IRoutedModule routed)
                routed.TrackRouting = true;
        }
        model.call(randn(2, 5, 6));
        model.call(randn(3, 6));
        Assert.That((query.TokenCount, query.K, query.RouteCount), Is.EqualTo((13, 3, 8)));
        Assert.That((head.TokenCount, head.K, head.RouteCount), Is.EqualTo((13, 3, 3)));
        Assert.That(head.IdsOf(12).ToArray(), Is.EqualTo(new[] { 0, 1, 2 }));
        Assert.That(head.WeightsOf(12).ToArray().Sum(), Is.EqualTo(1).Within(1e-6));
        Assert.That(query.IdsOf(0).ToArray(), Is.Unique);
        Assert.That(query.WeightsOf(0).ToArray().Sum(), Is.EqualTo(3).Within(1e-5), "SMoRA's gates sum to k");
        double[] totals = ((IRoutedModule)smora.Layers["blocks.0.query"]).GetRoutingTotals();
        Assert.That(query.ChoiceShares(), Is.EqualTo(totals.Select(t => t / 39)).Within(1e-12));
        double[] mixture = ((IRoutedModule)comol.Layers["head"]).GetRoutingTotals();
        Assert.That(head.WeightShares(), Is.EqualTo(mixture.Select(t => t / 13)).Within(1e-5));
        Assert.That(() => query.IdsOf(13).Length, Throws.InstanceOf<ArgumentOutOfRangeException>());

        trace.Clear();
        Assert.That(query.TokenCount, Is.Zero);
        trace.Dispose();
        model.call(randn(3, 6));
        Assert.That(query.TokenCount, Is.Zero, "a trace that was disposed of writes no more");
    }

    [Test]
    public void Trace_Exports_HoldEveryChoice()
    {
        using var scope = NewDisposeScope();
        using var model = new GatedModel(new GateOptions { Normalize = GateNormalize.SumToOne });
        using RouterTrace trace = RouterTrace.Record(model);
        model.call(randn(3, 6));
        RouterTraceLayer layer = trace.Layers["gate"];

        using var stream = new MemoryStream();
        trace.WriteJson(stream);
        JsonElement json = JsonDocument.Parse(stream.ToArray()).RootElement[0];
        Assert.That(json.GetProperty("path").GetString(), Is.EqualTo("gate"));
        Assert.That((json.GetProperty("routes").GetInt32(), json.GetProperty("k").GetInt32()), Is.EqualTo((4, 2)));
        using var writer = new StringWriter();
        trace.WriteCsv(writer);
        string[] lines = writer.ToString().TrimEnd('\n').Split('\n');
        Assert.That(lines, Has.Length.EqualTo(1 + 6));
        Assert.That(lines[0], Is.EqualTo("path,token,slot,id,weight"));
        for (int token = 0; token < 3; token++)
        {
            for (int slot = 0; slot < 2; slot++)
            {
                int id = layer.IdsOf(token)[slot];
                float weight = layer.WeightsOf(token)[slot];
                Assert.That(json.GetProperty("ids")[token][slot].GetInt32(), Is.EqualTo(id));
                Assert.That(json.GetProperty("weights")[token][slot].GetSingle(), Is.EqualTo(weight));
                Assert.That(lines[1 + (2 * token) + slot], Is.EqualTo(FormattableString.Invariant($"gate,{token},{slot},{id},{weight}")));
            }
        }
    }

    [Test]
    public void Trace_NoRouterOrASecondTrace_Throws()
    {
        using var plain = new TestModel();
        Assert.That(() => RouterTrace.Record(plain), Throws.InvalidOperationException.With.Message.Contains("no router"));
        using var gate = new TopKGate(3, 4, 2);
        using (RouterTrace.Record(gate))
            Assert.That(() => RouterTrace.Record(gate), Throws.InvalidOperationException.With.Message.Contains("already"));
        using RouterTrace again = RouterTrace.Record(gate);
        Assert.That(again.Layers, Has.Count.EqualTo(1));
    }

    [Test]
    public void AuxiliaryLoss_IsTheFormulaOfAllPassesOnce([Values] AdapterImplementation implementation)
    {
        using var scope = NewDisposeScope();
        using var model = new GatedModel(default);
        model.gate.Implementation = implementation;
        (model.gate.BalanceLossFactor, model.gate.ZLossFactor) = (0.5, 0.25);
        Tensor weight = model.gate.get_parameter("weight")!;
        Tensor LossOf(Tensor x)
        {
            Tensor z = nn.functional.linear(model.fc.call(x), weight);
            Tensor p = z.softmax(-1);
            (_, Tensor ids) = z.topk(2, dim: -1);
            Tensor shares = ids.flatten().bincount(null, minlength: 4).to(ScalarType.Float32) / ids.numel();
            return 0.5 * 4 * (shares * p.mean([0L])).sum() + 0.25 * z.logsumexp(-1, keepdim: false).square().mean();
        }

        Assert.That(model.AuxiliaryLoss().item<float>(), Is.Zero, "before any pass");
        Tensor x1 = randn(7, 6), x2 = randn(5, 6);
        using (NewDisposeScope())
        {
            model.call(x1);
            model.call(x2);
        }
        Tensor loss = model.AuxiliaryLoss();
        Tensor expected = LossOf(x1) + LossOf(x2);
        TensorAssert.AreClose(loss, expected, 1e-5, 1e-6);
        loss.backward();
        Tensor got = weight.grad!.clone();
        model.zero_grad();
        expected.backward();
        TensorAssert.AreClose(got, weight.grad, 1e-4, 1e-6, "gradient");
        Assert.That(model.AuxiliaryLoss().item<float>(), Is.Zero, "taken");

        model.eval();
        model.call(x1);
        model.train();
        using (no_grad())
            model.call(x1);
        model.call(zeros(0, 6));
        Assert.That(model.AuxiliaryLoss().item<float>(), Is.Zero, "evaluation, no gradients and no tokens make none");
        Assert.That(() => model.gate.ZLossFactor = -1, Throws.InstanceOf<ArgumentOutOfRangeException>());
        using var dense = new TopKGate(3, 4, 0, new GateOptions { Select = GateSelect.All });
        Assert.That(() => dense.BalanceLossFactor = 1, Throws.InstanceOf<ArgumentOutOfRangeException>());
    }

    [Test]
    public void UpdateRouterBiases_ReachesGatesAndAdapters()
    {
        using var scope = NewDisposeScope();
        using var model = new GatedModel(new GateOptions { Score = GateScore.Sigmoid, BiasMode = BiasMode.Selection });
        AdapterHandle handle = model.AddAdapter("s", new SMoRAConfig { Rank = 4, ActiveRanks = 1, BiasUpdateRate = 0.5 });
        model.call(randn(7, 6));
        model.UpdateRouterBiases();
        Assert.That(model.gate.get_buffer("load_bias")!.count_nonzero().item<long>(), Is.GreaterThan(0));
        Assert.That(handle.Layers["fc"].get_buffer("lora_biases")!.count_nonzero().item<long>(), Is.GreaterThan(0));
    }

    [Test]
    public void TrainableParameters_CountsByModule()
    {
        using var model = new TestModel();
        long all = model.parameters().Sum(p => p.numel());
        ParameterReport before = model.TrainableParameters();
        Assert.That((before.Trainable, before.Total, before.Share), Is.EqualTo((all, all, 1.0)));
        model.AddAdapter("a", new SMoRAConfig { Rank = 4, ActiveRanks = 2, TargetModules = ["query"], ModulesToSave = ["norm"] });
        ParameterReport report = model.TrainableParameters();
        long own = 4 * (6 + 6) + (4 * 6);
        Assert.That(report.Trainable, Is.EqualTo((2 * own) + 12));
        Assert.That(report.Total, Is.EqualTo(all + (2 * own)));
        Assert.That(report.Modules, Is.EquivalentTo(new ModuleParameters[]
        {
            new("blocks.0.query.a", "SMoRALinear", own), new("blocks.1.query.a", "SMoRALinear", own), new("norm", "LayerNorm", 12),
        }));
        Assert.That(report.Share, Is.EqualTo((double)report.Trainable / report.Total));
        Assert.That(report.ToString(), Does.Contain("156 of").And.Contain("blocks.1.query.a (SMoRALinear)"));
        using var nothing = nn.Sequential(("a", nn.Tanh()));
        Assert.That(nothing.TrainableParameters().ToString(), Does.StartWith("0 of 0"));
    }
}
