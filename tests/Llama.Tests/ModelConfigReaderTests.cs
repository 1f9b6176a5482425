using System.Text.Json.Nodes;

namespace Llama.Tests;

public sealed class ModelConfigReaderTests
{
    private TemporaryFolder _folder = null!;

    [SetUp]
    public void MakeFolder() => _folder = new TemporaryFolder();

    [TearDown]
    public void DeleteFolder() => _folder.Dispose();

    [Test]
    public void Read_Llama31_HasItsNumbers()
    {
        ModelConfig config = Read("""
            {
              "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 128000,
              "eos_token_id": [128001, 128008, 128009], "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
              "intermediate_size": 14336, "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama", "num_attention_heads": 32,
              "num_hidden_layers": 32, "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
              "rope_scaling": { "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192, "rope_type": "llama3" },
              "rope_theta": 500000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 128256
            }
            """);

        Assert.That(config with { EndTokens = [] }, Is.EqualTo(new ModelConfig
        {
            Family = ModelFamily.Llama,
            Vocabulary = 128256,
            Width = 4096,
            FeedForwardWidth = 14336,
            Layers = 32,
            Heads = 32,
            KeyValueHeads = 8,
            HeadWidth = 128,
            NormEpsilon = 1e-5,
            RotaryBase = 500000,
            RotaryScaling = new Llama3Scaling(8, 1, 4, 8192),
            MaxPositions = 131072,
            TiedEmbeddings = false,
            QueryKeyValueBias = false,
            OutputBias = false,
            FeedForwardBias = false,
        }));
        Assert.That(config.EndTokens, Is.EqualTo(new[] { 128001, 128008, 128009 }));
    }

    [Test]
    public void Read_Qwen25_HasBiasesWhateverItSays()
    {
        ModelConfig config = Read(Minimal("qwen2", """, "attention_bias": false, "use_sliding_window": false, "sliding_window": 32768, "max_window_layers": 1, "tie_word_embeddings": true"""));

        Assert.Multiple(() =>
        {
            Assert.That(config.QueryKeyValueBias, Is.True);
            Assert.That(config.OutputBias, Is.False);
            Assert.That(config.NormalizesHeads, Is.False);
            Assert.That(config.TiedEmbeddings, Is.True);
        });
    }

    [Test]
    public void Read_Qwen3_NormalisesHeadsOfTheirOwnWidth()
    {
        ModelConfig config = Read(Minimal("qwen3", """, "head_dim": 6, "attention_bias": true"""));

        Assert.Multiple(() =>
        {
            Assert.That(config.NormalizesHeads, Is.True);
            Assert.That(config.HeadWidth, Is.EqualTo(6));
            Assert.That(config.QueryKeyValueBias, Is.True);
            Assert.That(config.OutputBias, Is.True);
        });
    }

    [Test]
    public void Read_Qwen3WithoutAHeadWidth_HasHuggingFacesDefault() => Assert.That(Read(Minimal("qwen3", "")).HeadWidth, Is.EqualTo(128));

    [Test]
    public void Read_FewFields_HasHuggingFacesDefaults()
    {
        ModelConfig config = Read(Minimal("llama", """, "num_key_value_heads": null, "rope_scaling": null, "eos_token_id": null"""));

        Assert.Multiple(() =>
        {
            Assert.That(config.KeyValueHeads, Is.EqualTo(2));
            Assert.That(config.HeadWidth, Is.EqualTo(4));
            Assert.That(config.NormEpsilon, Is.EqualTo(1e-6));
            Assert.That(config.RotaryBase, Is.EqualTo(10000));
            Assert.That(config.RotaryScaling, Is.Null);
            Assert.That(config.TiedEmbeddings, Is.False);
            Assert.That(config.EndTokens, Is.Empty);
        });
    }

    [TestCase(""", "rope_parameters": { "rope_theta": 1e6, "rope_type": "default" }""", null)]
    [TestCase(""", "rope_theta": 1e6, "rope_parameters": { "rope_type": "linear", "factor": 2.0 }""", 2.0)]
    [TestCase(""", "rope_parameters": { "full_attention": { "rope_theta": 1e6, "rope_type": "linear", "factor": 2 } }""", 2.0)]
    [TestCase(""", "rope_theta": 1e6, "rope_scaling": { "type": "linear", "factor": 2.0 }""", 2.0)]
    public void Read_RotaryOfOldAndNewFiles_IsUnderstood(string fields, double? factor)
    {
        ModelConfig config = Read(Minimal("llama", fields));

        Assert.That(config.RotaryBase, Is.EqualTo(1e6));
        Assert.That(config.RotaryScaling, factor is { } value ? Is.EqualTo(new LinearScaling(value)) : Is.Null);
    }

    [Test]
    public void Read_GenerationConfig_AddsItsEnds()
    {
        _folder.Write("generation_config.json", """{ "eos_token_id": [5, 3] }""");

        Assert.That(Read(Minimal("llama", """, "eos_token_id": 3""")).EndTokens, Is.EqualTo(new[] { 3, 5 }));
    }

    [TestCase("llama", """, "hidden_act": "gelu" """, "hidden_act", "\"gelu\"", "silu")]
    [TestCase("mistral", "", "model_type", "\"mistral\"", "llama, qwen2, qwen3")]
    [TestCase("llama", """, "rope_scaling": { "rope_type": "yarn", "factor": 4.0 }""", "rope_type", "\"yarn\"", "llama3")]
    [TestCase("llama", """, "rope_scaling": { "type": "dynamic", "factor": 4.0 }""", "'type'", "\"dynamic\"", "linear")]
    [TestCase("llama", """, "rope_scaling": { "rope_type": "linear" }""", "'rope_scaling'", "factor", "lacks")]
    [TestCase("llama", """, "rope_scaling": { "rope_type": "linear", "factor": -1 }""", "factor", "-1", "above 0")]
    [TestCase("llama", """, "rope_scaling": { "rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4, "original_max_position_embeddings": 8 }""", "high_freq_factor", "4", "more than")]
    [TestCase("llama", """, "rope_scaling": 3""", "rope_scaling", "3", "an object")]
    [TestCase("llama", """, "partial_rotary_factor": 0.5""", "partial_rotary_factor", "0.5", "1")]
    [TestCase("llama", """, "num_key_value_heads": 3""", "num_key_value_heads", "3", "divisor")]
    [TestCase("llama", """, "head_dim": 5""", "head_dim", "5", "even")]
    [TestCase("llama", """, "num_attention_heads": 3""", "hidden_size", "8", "multiple")]
    [TestCase("llama", """, "vocab_size": 0""", "vocab_size", "0", "at least 1")]
    [TestCase("llama", """, "vocab_size": 2.5""", "vocab_size", "2.5", "whole number")]
    [TestCase("llama", """, "vocab_size": "many" """, "vocab_size", "\"many\"", "whole number")]
    [TestCase("llama", """, "rms_norm_eps": 0""", "rms_norm_eps", "0", "above 0")]
    [TestCase("llama", """, "tie_word_embeddings": 1""", "tie_word_embeddings", "1", "true or false")]
    [TestCase("llama", """, "attention_dropout": 1""", "attention_dropout", "1", "below 1")]
    [TestCase("llama", """, "eos_token_id": [1, "x"]""", "eos_token_id", "\"x\"", "whole numbers")]
    [TestCase("llama", """, "quantization_config": { "bits": 4 }""", "quantization_config", "bits", "none")]
    [TestCase("llama", """, "layer_types": ["full_attention", "sliding_attention"]""", "layer_types", "sliding_attention", "full_attention")]
    [TestCase("qwen2", """, "use_sliding_window": true, "sliding_window": 16, "max_window_layers": 1""", "use_sliding_window", "true", "false")]
    public void Read_WrongField_NamesItWithGotAndExpected(string type, string fields, string name, string got, string expected)
    {
        var failure = Assert.Throws<UserException>(() => Read(Minimal(type, fields)));

        Assert.That(failure.Message, Does.Contain("config.json").And.Contain(name).And.Contain(got).And.Contain(expected));
    }

    [TestCase("hidden_size")]
    [TestCase("intermediate_size")]
    [TestCase("num_hidden_layers")]
    [TestCase("num_attention_heads")]
    [TestCase("vocab_size")]
    [TestCase("max_position_embeddings")]
    [TestCase("model_type")]
    public void Read_MissingField_NamesIt(string field)
    {
        JsonObject config = JsonNode.Parse(Minimal("llama", ""))!.AsObject();
        config.Remove(field);

        var failure = Assert.Throws<UserException>(() => Read(config.ToJsonString()));

        Assert.That(failure.Message, Does.Contain(field).And.Contain("lacks"));
    }

    [Test]
    public void Read_AWindowThatNoLayerHas_IsNoWindow() =>
        Assert.That(() => Read(Minimal("qwen2", """, "use_sliding_window": true, "sliding_window": 16, "max_window_layers": 2""")), Throws.Nothing);

    [TestCase("{ \"model_type\": ", "not valid JSON")]
    [TestCase("[1, 2]", "expected an object")]
    public void Read_NoJsonObject_SaysSo(string json, string message)
    {
        var failure = Assert.Throws<UserException>(() => Read(json));

        Assert.That(failure.Message, Does.Contain("config.json").And.Contain(message));
    }

    [Test]
    public void Read_NoFolderOrFile_NamesWhatIsMissing()
    {
        string nothing = Path.Combine(_folder.Path, "nothing");

        Assert.That(Assert.Throws<UserException>(() => ModelConfigReader.Read(nothing)).Message, Does.Contain(nothing));
        Assert.That(Assert.Throws<UserException>(() => ModelConfigReader.Read(_folder.Path)).Message, Does.Contain("config.json"));
    }

    // A field that is there twice counts where it stands last.
    private static string Minimal(string type, string more) => $$"""
        {
          "model_type": "{{type}}", "vocab_size": 32, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
          "max_position_embeddings": 64{{more}}
        }
        """;

    private ModelConfig Read(string json)
    {
        _folder.Write("config.json", json);
        return ModelConfigReader.Read(_folder.Path);
    }
}
