using System.Text;
using System.Text.Json;

namespace MoEKernels.TorchSharp.Tests;

public sealed class PeftConfigTests
{
    // Field by field what PEFT writes for LoraConfig(r=4, lora_alpha=16, lora_dropout=0.05, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM",
    // inference_mode=True), but for peft_version, which PEFT fills in itself where it is missing.
    private const string Lora = """
        {
          "alora_invocation_tokens": null,
          "alpha_pattern": {},
          "arrow_config": null,
          "auto_mapping": null,
          "base_model_name_or_path": "tiny/llama",
          "bias": "none",
          "corda_config": null,
          "ensure_weight_tying": false,
          "eva_config": null,
          "exclude_modules": null,
          "fan_in_fan_out": false,
          "inference_mode": true,
          "init_lora_weights": true,
          "kasa_config": null,
          "layer_replication": null,
          "layers_pattern": null,
          "layers_to_transform": null,
          "loftq_config": {},
          "lora_alpha": 16,
          "lora_bias": false,
          "lora_dropout": 0.05,
          "lora_ga_config": null,
          "megatron_config": null,
          "megatron_core": "megatron.core",
          "modules_to_save": null,
          "monteclora_config": null,
          "peft_type": "LORA",
          "qalora_group_size": 16,
          "r": 4,
          "rank_pattern": {},
          "revision": null,
          "target_modules": [
            "q_proj",
            "v_proj"
          ],
          "target_parameters": null,
          "task_type": "CAUSAL_LM",
          "trainable_token_indices": null,
          "use_bdlora": null,
          "use_dora": false,
          "use_qalora": false,
          "use_rslora": false,
          "velora_config": null
        }
        """;

    [Test]
    public void Save_Lora_IsFieldByFieldWhatPeftWrites()
    {
        var config = new PeftConfig
        {
            Rank = 4,
            Alpha = 16,
            Dropout = 0.05,
            TargetModules = PeftModules.FromNames("q_proj", "v_proj"),
            TaskType = "CAUSAL_LM",
            BaseModelNameOrPath = "tiny/llama",
            InferenceMode = true,
        };
        Assert.That(Write(config), Is.EqualTo(Lora.ReplaceLineEndings("\n")));
    }

    [Test]
    public void Defaults_ArePefts()
    {
        var config = new PeftConfig();
        Assert.Multiple(() =>
        {
            Assert.That(config.PeftType, Is.EqualTo("LORA"));
            Assert.That(config.Rank, Is.EqualTo(8));
            Assert.That(config.Alpha, Is.EqualTo(8));
            Assert.That(config.Dropout, Is.Zero);
            Assert.That(config.TargetModules, Is.Null);
            Assert.That(config.ExcludeModules, Is.Null);
            Assert.That(config.ModulesToSave, Is.Null);
            Assert.That(config.FanInFanOut, Is.False);
            Assert.That(config.Bias, Is.EqualTo(PeftBias.None));
            Assert.That(config.LoraBias, Is.False);
            Assert.That(config.UseRsLora, Is.False);
            Assert.That(config.UseDora, Is.False);
            Assert.That(config.InitLoraWeights, Is.EqualTo("true"));
            Assert.That(config.LayersToTransform, Is.Null);
            Assert.That(config.LayersPattern, Is.Null);
            Assert.That(config.RankPattern, Is.Empty);
            Assert.That(config.AlphaPattern, Is.Empty);
            Assert.That(config.InferenceMode, Is.False);
        });
        Assert.That(Write(Read("""{"peft_type":"LORA"}""")), Does.Contain("\"r\": 8").And.Contain("\"lora_dropout\": 0.0,"), "Python's floats keep their point");
    }

    [TestCase(Lora)]
    [TestCase("""
        {"peft_type":"LORA","r":3,"lora_alpha":1.5,"lora_dropout":0,"target_modules":".*\\.(q|v)_proj","exclude_modules":["lm_head"],"modules_to_save":["lm_head","score"],
         "fan_in_fan_out":true,"bias":"lora_only","use_rslora":true,"use_dora":true,"init_lora_weights":"gaussian","rank_pattern":{"q_proj":2,"a":1},
         "alpha_pattern":{"q_proj":4},"revision":"main","my_own":{"nested":[1,2.50,"x"]},"peft_version":"0.17.1","lora_bias":false}
        """)]
    [TestCase("""{"peft_type":"LORA","target_modules":["q"],"layers_to_transform":[0,2],"layers_pattern":["layers"],"bias":"all","lora_bias":true,"init_lora_weights":false}""")]
    [TestCase("""{"peft_type":"SRMOLE","r":64,"activate_r":4,"rank_partition":2,"epsilon_greedy":true,"dense_compute":false,"target_modules":["q"]}""")]
    [TestCase("""{"peft_type":"MoCoreLORA","lora_rank":16,"num_experts":8,"core_router":true,"target_modules":["q"]}""")]
    public void LoadAndSave_KeepsEveryField(string json)
    {
        PeftConfig config = Read(json);
        string written = Write(config);
        using var before = JsonDocument.Parse(json);
        using var after = JsonDocument.Parse(written);
        foreach (JsonProperty field in before.RootElement.EnumerateObject())
            Assert.That(after.RootElement.TryGetProperty(field.Name, out JsonElement value) && JsonElement.DeepEquals(value, field.Value), Is.True, $"{field.Name}: {field.Value}");
        Assert.That(Write(Read(written)), Is.EqualTo(written), "a second time changes nothing");
        string[] names = [.. after.RootElement.EnumerateObject().Select(field => field.Name)];
        Assert.That(names, Is.EqualTo(names.Order(StringComparer.Ordinal)), "alphabetical, as PEFT");
    }

    [Test]
    public void Load_OneOrMany_ReadsBothForms()
    {
        PeftConfig config = Read("""{"peft_type":"LORA","target_modules":["q"],"layers_to_transform":3,"layers_pattern":"h"}""");
        Assert.That(config.LayersToTransform, Is.EqualTo(new[] { 3L }));
        Assert.That(config.LayersPattern, Is.EqualTo(new[] { "h" }));
    }

    [Test]
    public void Save_OlderWriters_GetOnlyTheirFields()
    {
        string[] smora = FieldsOf(Write(new PeftConfig { PeftType = PeftConfig.SMoRAType, OtherFields = PeftConfigJson.SMoRADefaults }));
        Assert.That(smora, Is.EqualTo(new[]
        {
            "activate_r", "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "dense_compute", "epsilon_greedy", "fan_in_fan_out", "inference_mode",
            "init_lora_weights", "layer_replication", "layers_pattern", "layers_to_transform", "loftq_config", "lora_alpha", "lora_dropout", "megatron_config",
            "megatron_core", "modules_to_save", "peft_type", "r", "rank_partition", "rank_pattern", "revision", "target_modules", "task_type", "use_dora", "use_rslora",
        }));
        string[] comol = FieldsOf(Write(new PeftConfig { PeftType = PeftConfig.CoMoLType, OtherFields = PeftConfigJson.CoMoLDefaults }));
        Assert.That(comol, Is.EqualTo(new[]
        {
            "auto_mapping", "base_model_name_or_path", "bias", "core_router", "inference_mode", "init_lora_weights", "lora_alpha", "lora_dropout", "lora_rank", "num_experts",
            "peft_type", "revision", "target_modules", "task_type",
        }));
    }

    [TestCase("model.layers.0.self_attn.q_proj", 8, 16)]
    [TestCase("model.layers.1.self_attn.q_proj", 2, 16)]
    [TestCase("model.layers.1.mlp.q_proj", 8, 16)]
    [TestCase("q_proj", 8, 16)]
    [TestCase("v_proj", 4, 32)]
    [TestCase("model.v_proj", 4, 32)]
    [TestCase("model.xv_proj", 8, 16)]
    public void RankAndAlpha_FirstPatternThatMatchesTheEndCounts(string path, int rank, double alpha)
    {
        PeftConfig config = Read("""
            {"peft_type":"LORA","r":8,"lora_alpha":16,"rank_pattern":{"v_proj":4,"layers\\.1\\.self_attn\\..*":2,"q_pro":1},"alpha_pattern":{"v_proj":32}}
            """);
        Assert.That(config.RankOf(path), Is.EqualTo(rank));
        Assert.That(config.AlphaOf(path), Is.EqualTo(alpha));
        Assert.That(config.ScaleOf(path), Is.EqualTo(alpha / rank));
        Assert.That((config with { UseRsLora = true }).ScaleOf(path), Is.EqualTo(alpha / Math.Sqrt(rank)));
    }

    [Test]
    public void Scale_SMoRA_IsAlphaOverActiveRanks() =>
        Assert.That(Read("""{"peft_type":"SRMOLE","r":64,"lora_alpha":16,"activate_r":8}""").ScaleOf("q"), Is.EqualTo(2));

    private static IEnumerable<TestCaseData> Targeted()
    {
        static TestCaseData Case(string fields, string path, bool expected) => new(fields, path, expected);
        const string Q0 = "model.layers.0.self_attn.q_proj", Q1 = "model.layers.1.self_attn.q_proj";
        yield return Case(""" "target_modules":["q_proj"] """, Q0, true);
        yield return Case(""" "target_modules":["_proj"] """, Q0, false);
        yield return Case(""" "target_modules":["self_attn.q_proj"] """, Q0, true);
        yield return Case(""" "target_modules":"q_proj" """, Q0, false);
        yield return Case(""" "target_modules":".*q_proj" """, Q0, true);
        yield return Case(""" "target_modules":"(?P<a>.*)\\.(q|v)_proj" """, Q0, true);
        yield return Case(""" "target_modules":"all-linear" """, Q0, true);
        yield return Case(""" "target_modules":null """, Q0, false);
        yield return Case(""" "target_modules":["q_proj"],"exclude_modules":["q_proj"] """, Q0, false);
        yield return Case(""" "target_modules":["q_proj"],"exclude_modules":".*\\.0\\..*" """, Q0, false);
        yield return Case(""" "target_modules":["q_proj"],"exclude_modules":".*\\.0\\..*" """, Q1, true);
        yield return Case(""" "target_modules":["q_proj"],"modules_to_save":["self_attn"] """, Q0, false);
        yield return Case(""" "target_modules":["q_proj"],"modules_to_save":["attn"] """, Q0, true);
        yield return Case(""" "target_modules":["q_proj"],"layers_to_transform":[1] """, Q0, false);
        yield return Case(""" "target_modules":["q_proj"],"layers_to_transform":[1] """, Q1, true);
        yield return Case(""" "target_modules":["q_proj"],"layers_to_transform":1,"layers_pattern":"layers" """, Q1, true);
        yield return Case(""" "target_modules":["q_proj"],"layers_to_transform":1,"layers_pattern":"h" """, Q1, false);
        // The first number is the layer, not a later one.
        yield return Case(""" "target_modules":["up"],"layers_to_transform":[0] """, "model.layers.1.experts.0.up", false);
        // A path that is named in full counts whatever its index is.
        yield return Case($$""" "target_modules":["{{Q0}}"],"layers_to_transform":[1] """, Q0, true);
    }

    [TestCaseSource(nameof(Targeted))]
    public void Targets_FollowsPeftsRules(string fields, string path, bool expected) =>
        Assert.That(Read($$"""{"peft_type":"LORA",{{fields}}}""").Targets(path), Is.EqualTo(expected));

    [TestCase("", "not JSON")]
    [TestCase("[]", "not a JSON object")]
    [TestCase("{}", "'peft_type'")]
    [TestCase("""{"peft_type":1}""", "'peft_type' is 1; expected a text")]
    [TestCase("""{"peft_type":"LORA","r":"8"}""", "'r' is \"8\"; expected a whole number")]
    [TestCase("""{"peft_type":"LORA","r":1.5}""", "'r' is 1.5")]
    [TestCase("""{"peft_type":"LORA","r":0}""", "'r' is 0; expected at least 1")]
    [TestCase("""{"peft_type":"MoCoreLORA","lora_rank":-1}""", "'lora_rank' is -1")]
    [TestCase("""{"peft_type":"LORA","r":8,"r":8}""", "'r' twice")]
    [TestCase("""{"peft_type":"LORA","lora_alpha":"x"}""", "'lora_alpha'")]
    [TestCase("""{"peft_type":"LORA","lora_alpha":1e999}""", "'lora_alpha'")]
    [TestCase("""{"peft_type":"LORA","lora_dropout":1}""", "'lora_dropout' is 1; expected 0 <= p < 1")]
    [TestCase("""{"peft_type":"LORA","target_modules":5}""", "'target_modules' is 5")]
    [TestCase("""{"peft_type":"LORA","target_modules":["a",1]}""", "'target_modules' is 1")]
    [TestCase("""{"peft_type":"LORA","target_modules":["a",""]}""", "'target_modules'")]
    [TestCase("""{"peft_type":"LORA","target_modules":"(("}""", "'target_modules' is \"((\"")]
    [TestCase("""{"peft_type":"LORA","exclude_modules":"(("}""", "'exclude_modules'")]
    [TestCase("""{"peft_type":"LORA","modules_to_save":[1]}""", "'modules_to_save' is 1")]
    [TestCase("""{"peft_type":"LORA","modules_to_save":["(("]}""", "'modules_to_save'")]
    [TestCase("""{"peft_type":"LORA","bias":"some"}""", "'bias' is \"some\"")]
    [TestCase("""{"peft_type":"LORA","use_dora":1}""", "'use_dora' is 1; expected true or false")]
    [TestCase("""{"peft_type":"LORA","use_dora":true,"lora_bias":true}""", "exclude each other")]
    [TestCase("""{"peft_type":"LORA","init_lora_weights":1}""", "'init_lora_weights' is 1")]
    [TestCase("""{"peft_type":"LORA","rank_pattern":[]}""", "'rank_pattern' is []")]
    [TestCase("""{"peft_type":"LORA","rank_pattern":{"a":0}}""", "'rank_pattern' has 0 for 'a'")]
    [TestCase("""{"peft_type":"LORA","rank_pattern":{"a":"x"}}""", "'rank_pattern.a' is \"x\"")]
    [TestCase("""{"peft_type":"LORA","rank_pattern":{"((":1}}""", "'rank_pattern'")]
    [TestCase("""{"peft_type":"LORA","alpha_pattern":{"a":1,"a":1}}""", "'a' twice")]
    [TestCase("""{"peft_type":"LORA","layers_to_transform":["x"]}""", "'layers_to_transform' is \"x\"")]
    [TestCase("""{"peft_type":"LORA","target_modules":"q","layers_to_transform":[1]}""", "'layers_to_transform'")]
    [TestCase("""{"peft_type":"LORA","target_modules":["q"],"layers_pattern":["h"]}""", "'layers_pattern' needs")]
    [TestCase("""{"peft_type":"\ud800"}""", "not JSON")]
    public void Load_BadField_IsNamed(string json, string message) =>
        Assert.That(() => Read(json), Throws.InstanceOf<InvalidDataException>().With.Message.Contains(message).And.Message.Contains("stream"));

    [Test]
    public void Save_OtherFieldThatIsAProperty_Throws()
    {
        var config = new PeftConfig { OtherFields = new Dictionary<string, JsonElement> { ["r"] = JsonSerializer.SerializeToElement(1) } };
        Assert.That(() => Write(config), Throws.ArgumentException.With.Message.Contains("'r'"));
        Assert.That(() => Write(new PeftConfig { Rank = 0 }), Throws.ArgumentException.With.Message.Contains("'r'"));
    }

    [Test]
    public void Targets_PatternThatTakesForever_Throws()
    {
        // A back-reference keeps .NET from matching in linear time.
        PeftConfig config = Read("""{"peft_type":"LORA","target_modules":"((a+)+\\2)+b"}""");
        Assert.That(() => config.Targets(new string('a', 60) + "c"), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("too long"));
    }

    [Test]
    public void Load_MutantsOfAValidFile_AreReadOrRefused()
    {
        byte[] valid = Encoding.UTF8.GetBytes(Lora);
        var random = new Random(11);
        int read = 0;
        for (int i = 0; i < 2000; i++)
        {
            byte[] mutant = [.. valid];
            for (int step = random.Next(4); step >= 0; step--)
                mutant[random.Next(mutant.Length)] = random.Next(3) == 0 ? (byte)random.Next(256) : valid[random.Next(valid.Length)];
            try
            {
                PeftConfig.Load(new MemoryStream(mutant));
                read++;
            }
            catch (InvalidDataException)
            {
            }
        }
        Assert.That(read, Is.InRange(20, 1900));
    }

    private static PeftConfig Read(string json) => PeftConfig.Load(new MemoryStream(Encoding.UTF8.GetBytes(json)));

    private static string Write(PeftConfig config)
    {
        using var stream = new MemoryStream();
        config.Save(stream);
        return Encoding.UTF8.GetString(stream.ToArray());
    }

    private static string[] FieldsOf(string json)
    {
        using var document = JsonDocument.Parse(json);
        return [.. document.RootElement.EnumerateObject().Select(field => field.Name)];
    }
}
