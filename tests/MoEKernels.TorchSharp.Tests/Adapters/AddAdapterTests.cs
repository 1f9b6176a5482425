using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

public sealed class AddAdapterTests
{
    private static readonly string[] AllLayers =
    [
        "arrayed", "blocks.0.mlp.down", "blocks.0.mlp.up", "blocks.0.query", "blocks.0.value",
        "blocks.1.mlp.down", "blocks.1.mlp.up", "blocks.1.query", "blocks.1.value", "head", "listed", "named.extra",
    ];

    [Test]
    public void AddAdapter_AllLinear_WrapsEveryLayerAndChangesNoOutput()
    {
        using var scope = NewDisposeScope();
        using var model = new TestModel();
        Tensor x = randn(5, 6);
        Tensor before = model.call(x);

        AdapterHandle handle = model.AddAdapter(new LoRAConfig());

        Assert.That(handle.Layers.Keys.Order(), Is.EqualTo(AllLayers));
        TensorAssert.AreEqual(model.call(x), before);
    }

    [Test]
    public void AddAdapter_TrainedAdapter_IsSeenByForwardThroughFieldsListsAndContainers()
    {
        using var scope = NewDisposeScope();
        using var model = new TestModel();
        Tensor x = randn(5, 6);
        AdapterHandle handle = model.AddAdapter(new LoRAConfig());
        foreach ((string path, AdapterLinear layer) in handle.Layers)
        {
            Tensor before = model.call(x);
            using (no_grad())
                layer.AdapterParameters().Single(p => p.name == "lora_B.weight").parameter.fill_(0.1);
            Tensor after = model.call(x);
            Assert.That((after - before).abs().max().item<float>(), Is.GreaterThan(0), $"forward does not go through {path}");
        }
    }

    [Test]
    public void AddAdapter_OnlyAdaptersRequireGradients()
    {
        using var model = new TestModel();
        AdapterHandle handle = model.AddAdapter(new LoRAConfig { TargetModules = ["query", "value"] });

        var trainable = model.named_parameters().Where(p => p.parameter.requires_grad).Select(p => p.name).Order();
        Assert.That(trainable, Is.EqualTo(handle.AdapterParameters().Select(p => p.name).Order()));
        Assert.That(trainable, Is.EqualTo(model.AdapterParameters().Select(p => p.name).Order()));
        Assert.That(trainable, Does.Contain("blocks.1.value.lora_A.weight"));
        Assert.That(handle.Layers, Has.Count.EqualTo(4));
    }

    [Test]
    public void AddAdapter_RegistryKeepsItsOrder()
    {
        using var model = new TestModel();
        string[] before = [.. model.blocks[0].named_children().Select(c => c.name)];
        model.AddAdapter(new LoRAConfig { TargetModules = ["query"] });
        Assert.That(model.blocks[0].named_children().Select(c => c.name), Is.EqualTo(before));
        Assert.That(model.state_dict().Keys, Does.Contain("blocks.0.query.base_layer.weight"));
    }

    [Test]
    public void Remove_BringsBackLayersFlagsAndOutputs()
    {
        using var scope = NewDisposeScope();
        using var model = new TestModel();
        model.named_parameters().First(p => p.name == "norm.bias").parameter.requires_grad = false;
        var flags = model.named_parameters().ToDictionary(p => p.name, p => p.parameter.requires_grad);
        string[] names = [.. model.state_dict().Keys];
        Tensor x = randn(5, 6);
        Tensor before = model.call(x);

        AdapterHandle handle = model.AddAdapter(new LoRAConfig());
        foreach ((_, Parameter parameter) in handle.AdapterParameters())
        {
            using (no_grad())
                parameter.fill_(0.3);
        }
        Assert.That((model.call(x) - before).abs().max().item<float>(), Is.GreaterThan(0));
        handle.Remove();

        Assert.That(handle.IsAttached, Is.False);
        Assert.That(model.state_dict().Keys, Is.EqualTo(names));
        Assert.That(model.named_parameters().ToDictionary(p => p.name, p => p.parameter.requires_grad), Is.EqualTo(flags));
        TensorAssert.AreEqual(model.call(x), before);
        Assert.That(handle.AdapterParameters().First().parameter.IsInvalid, Is.False, "the weights stay alive");
        handle.Dispose();
        TensorAssert.AreEqual(model.call(x), before, "after the adapter was freed");
        Assert.That(model.AddAdapter(new LoRAConfig()).Layers, Has.Count.EqualTo(AllLayers.Length), "a new one fits");
    }

    [Test]
    public void AddAdapter_SharedLayer_IsReplacedEverywhereOnce()
    {
        using var scope = NewDisposeScope();
        var shared = nn.Linear(4, 4);
        using var model = nn.Sequential(("first", shared), ("second", shared));
        AdapterHandle handle = model.AddAdapter(new LoRAConfig());
        Assert.That(handle.Layers.Keys, Is.EqualTo(new[] { "first" }));
        Assert.That(model[0], Is.SameAs(model[1]).And.InstanceOf<LoRALinear>());
    }

    [Test]
    public void AddAdapter_EvaluationMode_IsKept()
    {
        using var model = new TestModel();
        model.eval();
        AdapterHandle handle = model.AddAdapter(new LoRAConfig { Dropout = 0.5 });
        Assert.That(handle.Layers.Values.Select(l => l.training), Is.All.False);
        model.train();
        Assert.That(handle.Layers.Values.Select(l => l.training), Is.All.True);
    }

    [Test]
    public void AddAdapter_ExcludedAndGlobs_AreLeftOut()
    {
        using var model = new TestModel();
        AdapterHandle handle = model.AddAdapter(new LoRAConfig { TargetModules = ["blocks.*"], ExcludeModules = ["*.mlp.*", "blocks.1.query"] });
        Assert.That(handle.Layers.Keys.Order(), Is.EqualTo(new[] { "blocks.0.query", "blocks.0.value", "blocks.1.value" }));
    }

    [Test]
    public void AddAdapter_NoMatch_ListsWhatExists()
    {
        using var model = new TestModel();
        Assert.That(() => model.AddAdapter(new LoRAConfig { TargetModules = ["q_proj"] }),
            Throws.ArgumentException.With.Message.Contains("[q_proj]").And.Message.Contains("blocks.0.query"));
    }

    [Test]
    public void AddAdapter_OtherKindOfModule_IsNamed()
    {
        using var model = new TestModel();
        Assert.That(() => model.AddAdapter(new LoRAConfig { TargetModules = ["norm"] }),
            Throws.ArgumentException.With.Message.Contains("norm (LayerNorm)"));
    }

    [Test]
    public void AddAdapter_Twice_Throws()
    {
        using var model = new TestModel();
        model.AddAdapter(new LoRAConfig { TargetModules = ["query"] });
        Assert.That(() => model.AddAdapter(new LoRAConfig { TargetModules = ["value"] }),
            Throws.InvalidOperationException.With.Message.Contains("already"));
    }

    [Test]
    public void AddAdapter_LinearItself_Throws()
    {
        using var model = nn.Linear(3, 3);
        Assert.That(() => model.AddAdapter(new LoRAConfig()), Throws.ArgumentException.With.Message.Contains("LoRALinear"));
    }

    [Test]
    public void AddAdapter_FieldOfSealedType_ThrowsAndChangesNothing()
    {
        using var scope = NewDisposeScope();
        using var model = new SealedFieldModel();
        string[] names = [.. model.state_dict().Keys];
        Assert.That(() => model.AddAdapter(new LoRAConfig()),
            Throws.InvalidOperationException.With.Message.Contains("SealedFieldModel.fc").And.Message.Contains("Module<Tensor, Tensor>"));
        Assert.That(model.state_dict().Keys, Is.EqualTo(names));
        Assert.That(model.parameters().Select(p => p.requires_grad), Is.All.True);
        Assert.That(model.call(ones(1, 4)).shape, Is.EqualTo(new long[] { 1, 4 }));
    }

    [Test]
    public void Report_CountsParameters()
    {
        using var model = new TestModel();
        long frozen = model.parameters().Sum(p => p.numel());
        AdapterHandle handle = model.AddAdapter(new LoRAConfig { Rank = 2, TargetModules = ["query", "value"] });
        long own = 4 * 2 * (6 + 6);
        Assert.That(handle.Report, Is.EqualTo(new AdapterReport(4, own, frozen + own)));
        Assert.That(handle.Report.TrainableShare, Is.EqualTo((double)own / (frozen + own)).Within(1e-15));
        Assert.That(handle.Report.ToString(), Does.Contain("96 of"));
        handle.Remove();
        Assert.That(handle.Report, Is.EqualTo(new AdapterReport(4, own, frozen + own)));
    }

    [Test]
    public void SetEnabled_False_GivesTheBaseModel()
    {
        using var scope = NewDisposeScope();
        using var model = new TestModel();
        Tensor x = randn(2, 6);
        Tensor before = model.call(x);
        AdapterHandle handle = model.AddAdapter(new LoRAConfig());
        using (no_grad())
        {
            foreach ((_, Parameter parameter) in handle.AdapterParameters())
                parameter.fill_(0.3);
        }
        handle.SetEnabled(false);
        TensorAssert.AreEqual(model.call(x), before);
    }

    private static IEnumerable<TestCaseData> WrongConfigurations()
    {
        yield return new TestCaseData(new LoRAConfig { Rank = 0 }, "Rank");
        yield return new TestCaseData(new LoRAConfig { Alpha = double.NaN }, "Alpha");
        yield return new TestCaseData(new LoRAConfig { Dropout = 1 }, "Dropout");
        yield return new TestCaseData(new LoRAConfig { TargetModules = [] }, "TargetModules");
        yield return new TestCaseData(new LoRAConfig { ParameterType = ScalarType.Int32 }, "ParameterType");
        yield return new TestCaseData(new LoRAConfig { ParameterType = ScalarType.BFloat16 }, "ParameterType");
        yield return new TestCaseData(new LoRAConfig { TargetModules = ["blocks.[0"] }, "TargetModules");
        yield return new TestCaseData(new LoRAConfig { ExcludeModules = ["regex:("] }, "ExcludeModules");
        yield return new TestCaseData(new LoRAConfig { ModulesToSave = null! }, "ModulesToSave");
        yield return new TestCaseData(new LoRAConfig { RankPattern = new Dictionary<string, long> { ["query"] = 0 } }, "RankPattern");
        yield return new TestCaseData(new LoRAConfig { RankPattern = new Dictionary<string, long> { ["["] = 1 } }, "RankPattern");
        yield return new TestCaseData(new LoRAConfig { AlphaPattern = new Dictionary<string, double> { ["query"] = double.NaN } }, "AlphaPattern");
        yield return new TestCaseData(new LoRAConfig { InitialWeights = (LoRAInit)9 }, "InitialWeights");
        yield return new TestCaseData(new LoRAConfig { UseDora = true, InitialWeights = LoRAInit.Pissa }, "UseDora");
        yield return new TestCaseData(new LoRAConfig { Alpha = 0, InitialWeights = LoRAInit.Pissa }, "Alpha");
        yield return new TestCaseData(new LoRAConfig { LearningRateRatio = 0 }, "LearningRateRatio");
        yield return new TestCaseData(new LoKrConfig { DecomposeFactor = 0 }, "DecomposeFactor");
        yield return new TestCaseData(new SMoRAConfig { ActiveRanks = 65 }, "ActiveRanks");
        yield return new TestCaseData(new SMoRAConfig { ActiveRanks = 0 }, "ActiveRanks");
        yield return new TestCaseData(new SMoRAConfig { RankPartition = 3 }, "RankPartition");
        yield return new TestCaseData(new SMoRAConfig { BiasUpdateRate = double.PositiveInfinity }, "BiasUpdateRate");
        yield return new TestCaseData(new SMoRAConfig { Epsilon = -1 }, "Epsilon");
        yield return new TestCaseData(new SMoRAConfig { Gate = (SMoRAGate)7 }, "Gate");
        yield return new TestCaseData(new CoMoLConfig { Experts = 0 }, "Experts");
        yield return new TestCaseData(new CoMoLConfig { Router = CoreRouter.Caller }, "Router");
        yield return new TestCaseData(new CoMoLConfig { CoreDropout = -0.1 }, "CoreDropout");
        yield return new TestCaseData(new CoMoLConfig { MergedCoreDropout = 1.5 }, "MergedCoreDropout");
    }

    [TestCaseSource(nameof(WrongConfigurations))]
    public void AddAdapter_WrongConfiguration_NamesTheArgument(AdapterConfig config, string name)
    {
        using var model = new TestModel();
        string[] names = [.. model.state_dict().Keys];
        Assert.That(() => model.AddAdapter(config), Throws.InstanceOf<ArgumentException>().With.Message.Contains(name));
        Assert.That(model.state_dict().Keys, Is.EqualTo(names));
        Assert.That(model.parameters().Select(p => p.requires_grad), Is.All.True);
    }
}
