using System.Text;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

public sealed class PeftAdapterTests
{
    private string _folder = null!;

    [SetUp]
    public void MakeFolder() => _folder = Directory.CreateTempSubdirectory("peft").FullName;

    [TearDown]
    public void RemoveFolder() => Directory.Delete(_folder, recursive: true);

    [Test]
    public void Save_LlamaLikeModel_HasPeftsKeysAndShapesOneByOne()
    {
        PeftConfig config = PeftFixtures.Config(4, 16) with { RankPattern = new Dictionary<string, long> { ["layers.1.self_attn.v_proj"] = 2 } };
        using (PeftAdapter adapter = PeftFixtures.Lora(1, config))
            adapter.Save(_folder);
        Assert.That(Directory.GetFiles(_folder).Select(Path.GetFileName).Order(StringComparer.Ordinal), Is.EqualTo(new[] { "adapter_config.json", "adapter_model.safetensors" }));
        using var reader = SafetensorsReader.Open(Path.Combine(_folder, "adapter_model.safetensors"));
        Assert.That(reader.Entries.Select(entry => entry.ToString()).Order(StringComparer.Ordinal), Is.EqualTo(new[]
        {
            "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight: F32 [4, 8]",
            "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight: F32 [8, 4]",
            "base_model.model.model.layers.0.self_attn.v_proj.lora_A.weight: F32 [4, 8]",
            "base_model.model.model.layers.0.self_attn.v_proj.lora_B.weight: F32 [4, 4]",
            "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight: F32 [4, 8]",
            "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight: F32 [8, 4]",
            "base_model.model.model.layers.1.self_attn.v_proj.lora_A.weight: F32 [2, 8]",
            "base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight: F32 [4, 2]",
        }));
        Assert.That(reader.Metadata, Is.EqualTo(new Dictionary<string, string> { ["format"] = "pt" }));
    }

    private static IEnumerable<TestCaseData> Variants()
    {
        PeftConfig plain = PeftFixtures.Config(4, 16);
        yield return new TestCaseData(plain, ScalarType.Float32).SetArgDisplayNames("LoRA");
        yield return new TestCaseData(plain with { UseRsLora = true }, ScalarType.BFloat16).SetArgDisplayNames("rsLoRA, bf16");
        yield return new TestCaseData(plain with { UseDora = true }, ScalarType.Float16).SetArgDisplayNames("DoRA, f16");
        yield return new TestCaseData(plain with { LoraBias = true }, ScalarType.Float64).SetArgDisplayNames("bias of B, f64");
        yield return new TestCaseData(plain with { FanInFanOut = true, RankPattern = new Dictionary<string, long> { ["v_proj"] = 1 } }, ScalarType.Float32).SetArgDisplayNames("rank pattern");
    }

    [TestCaseSource(nameof(Variants))]
    public void SaveAndLoad_KeepsConfigTensorsAndLayers(PeftConfig config, ScalarType type)
    {
        long before = Tensor.TotalCount;
        using (PeftAdapter adapter = PeftFixtures.Lora(2, config, type: type))
        {
            adapter.Save(_folder);
            using PeftAdapter loaded = PeftAdapter.Load(_folder);
            AssertSame(loaded, adapter);
            foreach ((string path, PeftLayer layer) in loaded.Layers)
            {
                Assert.That(layer.Scale, Is.EqualTo(config.ScaleOf(path)));
                Assert.That(layer.Magnitude is not null, Is.EqualTo(config.UseDora));
                Assert.That(layer.Bias is not null, Is.EqualTo(config.LoraBias));
                Assert.That((layer.InFeatures, layer.OutFeatures), Is.EqualTo(PeftFixtures.WidthsOf(path)));
            }

            using MemoryStream json = new(), weights = new();
            loaded.Save(json, weights);
            (json.Position, weights.Position) = (0, 0);
            using PeftAdapter again = PeftAdapter.Load(json, weights);
            AssertSame(again, adapter);
            using PeftAdapter clone = again.Clone();
            AssertSame(clone, adapter);
        }
        GC.Collect();
        GC.WaitForPendingFinalizers();
        Assert.That(Tensor.TotalCount, Is.LessThanOrEqualTo(before), "tensors that are left");
    }

    [Test]
    public void Load_ModulesToSaveAndBiases_AreKept()
    {
        using var scope = NewDisposeScope();
        PeftConfig config = PeftFixtures.Config(2, 2) with { ModulesToSave = ["lm_head"], Bias = PeftBias.LoraOnly };
        using PeftAdapter plain = PeftFixtures.Lora(3, config);
        using var adapter = new PeftAdapter(config, plain.Tensors.Select(t => KeyValuePair.Create(t.Key, t.Value.clone())).Concat(
        [
            new("base_model.model.lm_head.weight", randn(10, 8)),
            new("base_model.model.model.layers.0.self_attn.q_proj.base_layer.bias", randn(8)),
        ]));
        adapter.Save(_folder);
        using PeftAdapter loaded = PeftAdapter.Load(_folder);
        AssertSame(loaded, adapter);
        Assert.That(loaded.Layers, Has.Count.EqualTo(4), "they are no layers of the adapter");
    }

    [Test]
    public void Load_SMoRAFile_OfTheAuthorsForm()
    {
        using var scope = NewDisposeScope();
        const string Path = "base_model.model.model.layers.0.self_attn.q_proj.";
        WriteFolder("""{"peft_type":"SRMOLE","r":4,"lora_alpha":16,"activate_r":2,"rank_partition":2,"epsilon_greedy":false,"dense_compute":false,"target_modules":["q_proj"]}""",
            new() { [Path + "lora_A.weight"] = randn(4, 8), [Path + "lora_B.weight"] = randn(8, 4), [Path + "lora_router.weight"] = randn(2, 8), [Path + "lora_biases"] = randn(4) });
        using PeftAdapter adapter = PeftAdapter.Load(_folder);
        Assert.That(adapter.Layers.Single().Value.Scale, Is.EqualTo(8));
    }

    [TestCase(true, 4)]
    [TestCase(false, 8)]
    public void Load_CoMoLFile_OfTheAuthorsForm(bool coreRouter, long routerWidth)
    {
        using var scope = NewDisposeScope();
        const string Path = "base_model.model.model.layers.0.self_attn.q_proj.";
        WriteFolder($$"""{"peft_type":"MoCoreLORA","lora_rank":4,"lora_alpha":8,"num_experts":2,"core_router":{{(coreRouter ? "true" : "false")}},"target_modules":["q_proj"]}""",
            new()
            {
                [Path + "lora_A.weight"] = randn(4, 8),
                [Path + "lora_B.weight"] = randn(8, 4),
                [Path + "lora_router.weight"] = randn(2, routerWidth),
                [Path + "lora_Cores.0"] = randn(4, 4),
                [Path + "lora_Cores.1"] = randn(4, 4),
            });
        using PeftAdapter adapter = PeftAdapter.Load(_folder);
        Assert.That(adapter.Layers.Single().Value.Scale, Is.EqualTo(2));
    }

    [Test]
    public void Load_EmbeddingAndKeysWithoutPrefix()
    {
        using var scope = NewDisposeScope();
        WriteFolder("""{"peft_type":"LORA","r":2,"lora_alpha":4}""", new()
        {
            ["base_model.model.model.embed_tokens.lora_embedding_A"] = randn(2, 10),
            ["base_model.model.model.embed_tokens.lora_embedding_B"] = randn(8, 2),
            ["unet.q.lora_A.weight"] = randn(2, 8),
            ["unet.q.lora_B.weight"] = randn(8, 2),
        });
        using PeftAdapter adapter = PeftAdapter.Load(_folder);
        Assert.That(adapter.Layers.Keys, Is.EquivalentTo(new[] { "model.embed_tokens", "unet.q" }));
        Assert.That(adapter.Layers["model.embed_tokens"].IsEmbedding, Is.True);
        Assert.That(adapter.Layers["model.embed_tokens"].Delta().shape, Is.EqualTo(new[] { 8L, 10 }));
    }

    [Test]
    public void Delta_IsScaledProduct()
    {
        using var scope = NewDisposeScope();
        using PeftAdapter adapter = PeftFixtures.Lora(4, PeftFixtures.Config(4, 16) with { UseRsLora = true });
        PeftLayer layer = adapter.Layers["model.layers.1.self_attn.v_proj"];
        TensorAssert.AreClose(layer.Delta(), layer.B.matmul(layer.A) * 8, 1e-6, 1e-6);
    }

    private static IEnumerable<TestCaseData> Unfit()
    {
        const string P = "base_model.model.q.";
        static TestCaseData Case(string name, string fields, Dictionary<string, Func<Tensor>> tensors, string message) =>
            new TestCaseData(fields, tensors, message).SetArgDisplayNames(name);
        Dictionary<string, Func<Tensor>> Pair(long r = 2) => new() { [P + "lora_A.weight"] = () => ones(r, 8), [P + "lora_B.weight"] = () => ones(6, r) };
        Dictionary<string, Func<Tensor>> With(string part, Func<Tensor> tensor) => new(Pair()) { [P + part] = tensor };

        yield return Case("no A", "", new() { [P + "lora_B.weight"] = () => ones(6, 2) }, "'q' has no 'lora_A.weight'");
        yield return Case("no B", "", new() { [P + "lora_A.weight"] = () => ones(2, 8) }, "'q' has no 'lora_B.weight'");
        yield return Case("rank of A", "", With("lora_A.weight", () => ones(3, 8)), "'q.lora_A.weight' has shape [3, 8]; expected 2 rows");
        yield return Case("rank of B", "", With("lora_B.weight", () => ones(6, 3)), "'q.lora_B.weight' has shape [6, 3]; expected 2 columns");
        yield return Case("rank pattern", ""","rank_pattern":{"q":3}""", Pair(), "expected 3 rows");
        yield return Case("vector", "", With("lora_A.weight", () => ones(2)), "expected two matrices");
        yield return Case("integers", "", With("lora_A.weight", () => ones(2, 8, dtype: ScalarType.Int32)), "Int32");
        yield return Case("no magnitude", ""","use_dora":true""", Pair(), "'lora_magnitude_vector', which 'use_dora' needs");
        yield return Case("magnitude's shape", ""","use_dora":true""", With("lora_magnitude_vector", () => ones(5)), "[5]; expected [6]");
        yield return Case("magnitude without use_dora", "", With("lora_magnitude_vector", () => ones(6)), "'q.lora_magnitude_vector' is not one of");
        yield return Case("no bias", ""","lora_bias":true""", Pair(), "no 'lora_B.bias'");
        yield return Case("unknown part", "", With("lora_X", () => ones(6)), "'q.lora_X' is not one of");
        yield return Case("magnitude twice", ""","use_dora":true""", new(With("lora_magnitude_vector", () => ones(6))) { [P + "lora_magnitude_vector.weight"] = () => ones(6) }, "two tensors");
        yield return Case("unknown method", ""","peft_type":"VERA" """, Pair(), "'peft_type' is 'VERA'");
        yield return Case("no router", ""","peft_type":"SRMOLE","activate_r":1""", Pair(), "no 'lora_router.weight'");
        yield return Case("active ranks", ""","peft_type":"SRMOLE","activate_r":9""", Pair(), "'activate_r' is 9");
        yield return Case("active ranks' type", ""","peft_type":"SRMOLE","activate_r":"x" """, Pair(), "'activate_r' is \"x\"");
        yield return Case("partition", ""","peft_type":"SRMOLE","activate_r":1,"rank_partition":3""", Pair(), "'rank_partition' is 3");
        yield return Case("cores", ""","peft_type":"MoCoreLORA","lora_rank":2,"num_experts":1""", With("lora_router.weight", () => ones(1, 8)), "no 'lora_Cores.0'");
        yield return Case("experts", ""","peft_type":"MoCoreLORA","lora_rank":2,"num_experts":5000""", Pair(), "'num_experts' is 5000");
    }

    [TestCaseSource(nameof(Unfit))]
    public void Load_TensorsThatDoNotFit_AreNamed(string fields, Dictionary<string, Func<Tensor>> tensors, string message)
    {
        using var scope = NewDisposeScope();
        string type = fields.Contains("peft_type", StringComparison.Ordinal) ? string.Empty : ""","peft_type":"LORA" """;
        string rank = fields.Contains("lora_rank", StringComparison.Ordinal) ? string.Empty : ""","r":2""";
        WriteFolder($$"""{"lora_alpha":4{{type}}{{rank}}{{fields}}}""", tensors.ToDictionary(t => t.Key, t => t.Value()));
        long before = Tensor.TotalCount;
        Assert.That(() => PeftAdapter.Load(_folder), Throws.InstanceOf<InvalidDataException>().With.Message.Contains(message).And.Message.Contains("adapter_model.safetensors"));
        Assert.That(Tensor.TotalCount, Is.EqualTo(before));
    }

    [Test]
    public void Load_MissingOrPickledFiles_Throws()
    {
        Assert.That(() => PeftAdapter.Load(_folder), Throws.InstanceOf<IOException>().With.Message.Contains("adapter_config.json"));
        File.WriteAllText(Path.Combine(_folder, "adapter_config.json"), """{"peft_type":"LORA"}""");
        Assert.That(() => PeftAdapter.Load(_folder), Throws.InstanceOf<IOException>().With.Message.Contains("adapter_model.safetensors"));
        File.WriteAllText(Path.Combine(_folder, "adapter_model.bin"), "x");
        Assert.That(() => PeftAdapter.Load(_folder), Throws.InstanceOf<IOException>().With.Message.Contains("pickle"));
    }

    [Test]
    public void Make_SameNameTwice_Throws()
    {
        using var scope = NewDisposeScope();
        Assert.That(() => new PeftAdapter(new PeftConfig(), [new("a", ones(1)), new("a", ones(1))]), Throws.ArgumentException.With.Message.Contains("'a'"));
    }

    private void WriteFolder(string config, Dictionary<string, Tensor> tensors)
    {
        File.WriteAllText(Path.Combine(_folder, "adapter_config.json"), config);
        SafetensorsFile.Save(Path.Combine(_folder, "adapter_model.safetensors"), tensors);
    }

    private static void AssertSame(PeftAdapter got, PeftAdapter expected)
    {
        Assert.That(Json(got.Config), Is.EqualTo(Json(expected.Config)));
        Assert.That(got.Tensors.Keys.Order(StringComparer.Ordinal), Is.EqualTo(expected.Tensors.Keys.Order(StringComparer.Ordinal)));
        Assert.That(got.Layers.Keys, Is.EqualTo(expected.Layers.Keys));
        foreach ((string name, Tensor tensor) in expected.Tensors)
        {
            Assert.That(got.Tensors[name].dtype, Is.EqualTo(tensor.dtype), name);
            TensorAssert.AreEqual(got.Tensors[name], tensor, name);
        }
    }

    private static string Json(PeftConfig config)
    {
        using var stream = new MemoryStream();
        config.Save(stream);
        return Encoding.UTF8.GetString(stream.ToArray());
    }
}
