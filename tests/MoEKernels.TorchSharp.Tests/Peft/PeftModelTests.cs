using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>PEFT adapters in and out of models.</summary>
public sealed class PeftModelTests
{
    private static IEnumerable<AdapterConfig> Configurations() =>
    [
        new LoRAConfig { Rank = 2, TargetModules = ["query", "named.extra"], Alpha = 8 },
        new LoRAConfig { Rank = 3, RankStabilized = true, RankPattern = new Dictionary<string, long> { ["query"] = 2 }, AlphaPattern = new Dictionary<string, double> { ["blocks.0.query"] = 5 } },
        new LoRAConfig { Rank = 2, UseDora = true, TargetModules = ["blocks.?.query"], RankPattern = new Dictionary<string, long> { ["blocks.1.*"] = 1 } },
        new LoRAConfig { Rank = 2, TargetModules = ["query"], ModulesToSave = ["head"] },
        new LoRAConfig { Rank = 2, TargetModules = ["query", "value"], ModulesToSave = ["head"], Bias = PeftBias.All },
        new LoRAConfig { Rank = 2, TargetModules = ["query", "up"], Bias = PeftBias.LoraOnly },
        new SMoRAConfig { Rank = 4, ActiveRanks = 2, RankPartition = 2, ExcludeModules = ["head"], BiasUpdateRate = 0.5, TargetModules = ["query", "head"] },
        new CoMoLConfig { Rank = 3, Experts = 2, Router = CoreRouter.Input, TargetModules = ["query"], CoreDropout = 0.25 },
        new CoMoLConfig { Rank = 3, Experts = 3, TargetModules = ["query"] },
    ];

    [TestCaseSource(nameof(Configurations))]
    public void ExtractSaveLoadApply_GivesTheSameOutput(AdapterConfig config)
    {
        using var scope = NewDisposeScope();
        using TestModel model = new(), other = new();
        other.load_state_dict(model.state_dict());
        AdapterHandle handle = model.AddAdapter("mine", config);
        Randomize(handle);
        using PeftAdapter extracted = PeftAdapter.Extract(handle);
        using MemoryStream json = new(), weights = new();
        extracted.Save(json, weights);
        (json.Position, weights.Position) = (0, 0);
        using PeftAdapter loaded = PeftAdapter.Load(json, weights);
        AdapterHandle applied = loaded.Apply(other, "theirs");
        Assert.That(applied.Layers.Keys, Is.EquivalentTo(handle.Layers.Keys));
        model.eval();
        other.eval();
        Tensor x = randn(5, 6);
        TensorAssert.AreEqual(other.call(x), model.call(x));
    }

    [Test]
    public void Apply_PeftsFile_EqualsTheHandMergedWeights()
    {
        using var scope = NewDisposeScope();
        using TestModel model = new(), merged = new();
        merged.load_state_dict(model.state_dict());
        var config = new PeftConfig { Rank = 2, Alpha = 8, UseRsLora = true, TargetModules = PeftModules.FromNames("query") };
        string[] paths = ["blocks.0.query", "blocks.1.query"];
        using var adapter = new PeftAdapter(config, paths.SelectMany(path => new[]
        {
            KeyValuePair.Create($"base_model.model.{path}.lora_A.weight", randn(2, 6)), KeyValuePair.Create($"base_model.model.{path}.lora_B.weight", randn(6, 2)),
        }));
        using (no_grad())
        {
            foreach (string path in paths)
                ((Linear)merged.named_modules().Single(entry => entry.name == path).module).weight.add_(adapter.Layers[path].Delta());
        }
        adapter.Apply(model);
        Tensor x = randn(5, 6);
        TensorAssert.AreCloseToScale(model.call(x), merged.call(x), 1e-5);
    }

    [Test]
    public void Extract_Names_ArePefts()
    {
        using var scope = NewDisposeScope();
        using var model = new TestModel();
        using PeftAdapter comol = PeftAdapter.Extract(model.AddAdapter("a", new CoMoLConfig { Rank = 2, Experts = 2, TargetModules = ["blocks.0.query"] }));
        Assert.That(comol.Tensors.Keys.Order(StringComparer.Ordinal), Is.EqualTo(new[] { "lora_A.weight", "lora_B.weight", "lora_Cores.0", "lora_Cores.1", "lora_router.weight" }
            .Select(part => $"base_model.model.blocks.0.query.{part}")));
        using PeftAdapter all = PeftAdapter.Extract(model.AddAdapter("b", new LoRAConfig { Rank = 2 }));
        Assert.That(all.Config.TargetModules!.Names, Has.Count.EqualTo(all.Layers.Count), "\"all-linear\" is written as the names it found");
    }

    [Test]
    public void Apply_WhatDoesNotFit_IsNamed_AndTheModelStaysAsItWas()
    {
        using var scope = NewDisposeScope();
        using var model = new TestModel();
        string[] names = [.. model.state_dict().Keys];
        PeftConfig config = new() { Rank = 2 };
        using PeftAdapter missing = Make(config, "blocks.7.query", 6, 6), wide = Make(config, "blocks.0.query", 7, 6);
        using PeftAdapter biased = Make(config with { Bias = PeftBias.All }, "blocks.0.query", 6, 6), pissa = Make(config with { InitLoraWeights = "pissa_niter_4" }, "blocks.0.query", 6, 6);
        using PeftAdapter qalora = Make(config with { OtherFields = new Dictionary<string, System.Text.Json.JsonElement> { ["use_qalora"] = PeftConfigJson.ToElement(true) } }, "blocks.0.query", 6, 6);
        Assert.That(() => missing.Apply(model), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("'blocks.7.query'"));
        Assert.That(() => wide.Apply(model), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("[2, 7]").And.Message.Contains("[2, 6]"));
        Assert.That(() => biased.Apply(model), Throws.InstanceOf<InvalidDataException>().With.Message.Contains(".bias'"));
        Assert.That(() => pissa.Apply(model), Throws.InstanceOf<NotSupportedException>().With.Message.Contains("pissa_niter_4"));
        Assert.That(() => qalora.Apply(model), Throws.InstanceOf<NotSupportedException>().With.Message.Contains("'use_qalora'"));
        Assert.That(model.state_dict().Keys, Is.EqualTo(names));
    }

    [Test]
    public void Extract_WithoutAFormInPeft_Throws()
    {
        using var model = new TestModel();
        AdapterHandle milora = model.AddAdapter("a", new LoRAConfig { Rank = 2, InitialWeights = LoRAInit.Milora, TargetModules = ["query"] });
        AdapterHandle loha = model.AddAdapter("b", new LoHaConfig { Rank = 2, TargetModules = ["value"] });
        Assert.That(() => PeftAdapter.Extract(milora), Throws.InstanceOf<NotSupportedException>().With.Message.Contains("Milora").And.Message.Contains("ExtractAsLora"));
        Assert.That(() => PeftAdapter.Extract(loha), Throws.InstanceOf<NotSupportedException>().With.Message.Contains("LoHaConfig"));
    }

    [TestCase("pissa", true)]
    [TestCase("pissa", false)]
    [TestCase("olora", false)]
    public void Apply_AFileWhoseStartChangesTheBase_IsWhatPeftComputes(string init, bool rankStabilized)
    {
        using var scope = NewDisposeScope();
        using TestBlock model = new(6), plain = new(6);
        plain.load_state_dict(model.state_dict());
        Tensor w = ((Linear)model.query).weight.detach().clone(), bias = ((Linear)model.query).bias!.detach().clone();
        var config = new PeftConfig { Rank = 2, Alpha = 6, UseRsLora = rankStabilized, InitLoraWeights = init, TargetModules = PeftModules.FromNames("query") };
        using var adapter = new PeftAdapter(config, [new("base_model.model.query.lora_A.weight", randn(2, 6)), new("base_model.model.query.lora_B.weight", randn(6, 2))]);
        AdapterHandle handle = adapter.Apply(model, "a");

        double scale = rankStabilized ? 6 / Math.Sqrt(2) : 3;
        Tensor start;
        if (init == "pissa")
        {
            (Tensor u, Tensor s, Tensor vt) = linalg.svd(w, fullMatrices: false);
            start = (u.narrow(1, 0, 2) * s.narrow(0, 0, 2)).matmul(vt.narrow(0, 0, 2));
        }
        else
        {
            (Tensor q, Tensor r) = linalg.qr(w);
            start = q.narrow(1, 0, 2).matmul(r.narrow(0, 0, 2)) * scale;
        }
        Tensor changed = w - start + adapter.Layers["query"].Delta();
        Tensor x = randn(4, 6);
        TensorAssert.AreCloseToScale(model.query.call(x), nn.functional.linear(x, changed, bias), 1e-5);
        using (model.WithoutAdapters())
            TensorAssert.AreCloseToScale(model.query.call(x), nn.functional.linear(x, w, bias), 1e-5, "the model without it");

        using PeftAdapter back = PeftAdapter.Extract(handle);
        Assert.That(back.Config.InitLoraWeights, Is.EqualTo(init));
        Assert.That(back.Tensors.Keys, Is.EquivalentTo(adapter.Tensors.Keys), "PEFT's names and no others");
        TensorAssert.AreEqual(back.Layers["query"].A, adapter.Layers["query"].A);
        using PeftAdapter lora = PeftAdapter.ExtractAsLora(handle);
        Assert.That((lora.Layers["query"].Rank, lora.Config.InitLoraWeights), Is.EqualTo((4L, "true")));
        lora.Apply(plain);
        TensorAssert.AreCloseToScale(plain.call(x), model.call(x), 1e-5, "as a plain LoRA");
    }

    [Test]
    public void ChangedBase_WhatIsNotDefined_IsRefused()
    {
        using var scope = NewDisposeScope();
        using TestBlock model = new(6);
        PeftConfig config = new() { Rank = 2, InitLoraWeights = "pissa" };
        using PeftAdapter pissa = Make(config, "query", 6, 6), dora = new(config with { UseDora = true }, [new("base_model.model.query.lora_A.weight", ones(2, 6)),
            new("base_model.model.query.lora_B.weight", ones(6, 2)), new("base_model.model.query.lora_magnitude_vector", ones(6))]);
        Assert.That(() => dora.Apply(model), Throws.InstanceOf<NotSupportedException>().With.Message.Contains("use_dora"));
        foreach (string other in new[] { "pissa_niter_4", "corda", "loftq", "lora_ga" })
        {
            using PeftAdapter refused = Make(config with { InitLoraWeights = other }, "query", 6, 6);
            Assert.That(() => refused.Apply(model), Throws.InstanceOf<NotSupportedException>().With.Message.Contains(other));
        }
        AdapterHandle first = pissa.Apply(model, "first");
        Assert.That(() => pissa.Apply(model, "second"), Throws.InvalidOperationException.With.Message.Contains("'first'"));
        AdapterHandle second = model.AddAdapter("second", new LoRAConfig { Rank = 2, InitialWeights = LoRAInit.Olora, TargetModules = ["query"] });
        Assert.That(() => PeftAdapter.Extract(second), Throws.InstanceOf<NotSupportedException>().With.Message.Contains("'query'"));
        Assert.That(() => PeftAdapter.ExtractAsLora(second).Dispose(), Throws.Nothing);
        first.Remove();
        model.RemoveAdapter("second");
        AdapterHandle negative = model.AddAdapter("n", new LoRAConfig { Rank = 2, Alpha = -1, InitialWeights = LoRAInit.Pissa, TargetModules = ["query"] });
        Assert.That(() => PeftAdapter.Extract(negative), Throws.InstanceOf<NotSupportedException>().With.Message.Contains("negative"));
    }

    private static PeftAdapter Make(PeftConfig config, string path, long dIn, long dOut) =>
        new(config, [new($"base_model.model.{path}.lora_A.weight", ones(2, dIn)), new($"base_model.model.{path}.lora_B.weight", ones(dOut, 2))]);

    private static void Randomize(AdapterHandle handle)
    {
        using (no_grad())
        {
            foreach ((_, Parameter parameter) in handle.AdapterParameters())
                init.normal_(parameter);
        }
    }
}
