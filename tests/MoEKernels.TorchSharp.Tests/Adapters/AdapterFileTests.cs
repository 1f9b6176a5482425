using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

public sealed class AdapterFileTests
{
    private string _path = null!;

    [SetUp]
    public void MakePath() => _path = Path.Combine(Directory.CreateTempSubdirectory("adapter").FullName, "adapter.safetensors");

    [TearDown]
    public void RemoveFolder() => Directory.Delete(Path.GetDirectoryName(_path)!, recursive: true);

    private static IEnumerable<AdapterConfig> Configurations() =>
    [
        new LoRAConfig { Rank = 2, TargetModules = ["query", "named.extra"], RankStabilized = true },
        new LoRAConfig { Rank = 2, TargetModules = ["query"], UseDora = true, ModulesToSave = ["norm"], LearningRateRatio = 4, InitialWeights = LoRAInit.Gaussian },
        new LoRAConfig { Rank = 2, TargetModules = ["query"], RankPattern = new Dictionary<string, long> { ["blocks.0.*"] = 3 }, AlphaPattern = new Dictionary<string, double> { ["query"] = 2.5 } },
        new LoHaConfig { Rank = 2, TargetModules = ["query"] },
        new LoKrConfig { Rank = 1, TargetModules = ["query"], DecomposeBoth = true, DecomposeFactor = 2 },
        new SMoRAConfig { Rank = 4, ActiveRanks = 2, RankPartition = 2, ExcludeModules = ["head"], BiasUpdateRate = 0.5 },
        new CoMoLConfig { Rank = 3, Experts = 2, Router = CoreRouter.Input, TargetModules = ["blocks.*"], CoreDropout = 0.25 },
    ];

    [TestCaseSource(nameof(Configurations))]
    public void SaveAndLoad_IntoAFreshModel_RestoresConfigurationAndWeights(AdapterConfig config)
    {
        using var scope = NewDisposeScope();
        using var model = new TestModel();
        AdapterHandle saved = model.AddAdapter(config);
        Randomize(saved);
        model.SaveAdapter(_path);

        using var other = new TestModel();
        AdapterHandle loaded = other.LoadAdapter(_path);

        Assert.That(loaded.Configuration.GetType(), Is.EqualTo(config.GetType()));
        Assert.That(System.Text.Json.JsonSerializer.Serialize(loaded.Configuration), Is.EqualTo(System.Text.Json.JsonSerializer.Serialize(config)));
        Assert.That(loaded.Layers.Keys, Is.EqualTo(saved.Layers.Keys));
        foreach (((string name, Tensor got), (_, Tensor expected)) in TensorsOf(loaded).Zip(TensorsOf(saved)))
            TensorAssert.AreEqual(got, expected, name);
        Assert.That(loaded.AdapterParameters().Select(p => p.parameter.requires_grad), Is.All.True);
    }

    [Test]
    public void Save_Names_FollowPeft()
    {
        using var model = new TestModel();
        model.AddAdapter(new SMoRAConfig { Rank = 4, ActiveRanks = 2, TargetModules = ["query"] });
        model.SaveAdapter(_path);
        var loaded = SafetensorsFile.Load(_path);
        Assert.That(loaded.Keys.Where(k => k.Contains("blocks.0", StringComparison.Ordinal)).Order(), Is.EqualTo(new[]
        {
            "base_model.model.blocks.0.query.lora_A.weight",
            "base_model.model.blocks.0.query.lora_B.weight",
            "base_model.model.blocks.0.query.lora_biases",
            "base_model.model.blocks.0.query.lora_router.weight",
        }));
        Assert.That(SafetensorsFile.ReadMetadata(_path)["adapter_config"], Does.Contain("\"peft_type\":\"SMORA\"").And.Contain("\"activate_r\":2"));
        foreach (Tensor tensor in loaded.Values)
            tensor.Dispose();
    }

    [Test]
    public void Load_OtherShape_NamesTensorAndBothShapesAndChangesNothing()
    {
        using var scope = NewDisposeScope();
        using var model = new TestModel();
        Randomize(model.AddAdapter(new LoRAConfig { Rank = 2, TargetModules = ["query"] }));
        model.SaveAdapter(_path);

        using var other = new TestModel();
        AdapterHandle handle = other.AddAdapter(new LoRAConfig { Rank = 3, TargetModules = ["query"] });
        var before = TensorsOf(handle).ToDictionary(t => t.Name, t => t.Tensor.clone());
        Assert.That(() => other.LoadAdapter(_path), Throws.InstanceOf<InvalidDataException>()
            .With.Message.Contains("blocks.0.query.lora_A.weight").And.Message.Contains("[2, 6]").And.Message.Contains("[3, 6]"));
        foreach ((string name, Tensor tensor) in TensorsOf(handle))
            TensorAssert.AreEqual(tensor, before[name], name);
    }

    [Test]
    public void Load_MissingOrUnknownTensor_IsNamed()
    {
        using var scope = NewDisposeScope();
        using var model = new TestModel();
        model.AddAdapter(new LoRAConfig { Rank = 2, TargetModules = ["query"] });
        model.SaveAdapter(_path);

        using var wider = new TestModel();
        wider.AddAdapter(new LoRAConfig { Rank = 2, TargetModules = ["query", "value"] });
        Assert.That(() => wider.LoadAdapter(_path), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("no tensor 'blocks.0.value.lora_A.weight'"));

        using var narrower = new TestModel();
        narrower.AddAdapter(new LoRAConfig { Rank = 2, TargetModules = ["blocks.0.query"] });
        Assert.That(() => narrower.LoadAdapter(_path), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("blocks.1.query.lora_A.weight"));
    }

    [Test]
    public void Load_NoConfigurationAndNoAdapter_Throws()
    {
        using var scope = NewDisposeScope();
        SafetensorsFile.Save(_path, [new("a", ones(1))]);
        using var model = new TestModel();
        Assert.That(() => model.LoadAdapter(_path), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("no adapter configuration"));
    }

    [TestCase("{\"peft_type\":\"NOPE\"}")]
    [TestCase("{\"r\":2}")]
    [TestCase("null")]
    [TestCase("{")]
    public void Load_UnreadableConfiguration_Throws(string json)
    {
        using var scope = NewDisposeScope();
        SafetensorsFile.Save(_path, [new("a", ones(1))], new Dictionary<string, string> { ["adapter_config"] = json });
        using var model = new TestModel();
        Assert.That(() => model.LoadAdapter(_path), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("cannot be read"));
    }

    [Test]
    public void Load_FailsAfterAdding_LeavesTheModelAsItWas()
    {
        using var scope = NewDisposeScope();
        SafetensorsFile.Save(_path, [new("a", ones(1))], new Dictionary<string, string>
        {
            ["adapter_config"] = """{"peft_type":"LORA","r":2,"lora_alpha":2,"target_modules":["query"]}""",
        });
        using var model = new TestModel();
        string[] names = [.. model.state_dict().Keys];
        Assert.That(() => model.LoadAdapter(_path), Throws.InstanceOf<InvalidDataException>());
        Assert.That(model.state_dict().Keys, Is.EqualTo(names));
    }

    [Test]
    public void Save_NoAdapter_Throws()
    {
        using var model = new TestModel();
        Assert.That(() => model.SaveAdapter(_path), Throws.InvalidOperationException);
    }

    private static IEnumerable<(string Name, Tensor Tensor)> TensorsOf(AdapterHandle handle) =>
        handle.Layers.SelectMany(layer => layer.Value.AdapterTensors().Select(t => ($"{layer.Key}.{t.Name}", t.Tensor)));

    private static void Randomize(AdapterHandle handle)
    {
        using (no_grad())
        {
            foreach ((_, Tensor tensor) in TensorsOf(handle))
                nn.init.normal_(tensor);
        }
    }
}
