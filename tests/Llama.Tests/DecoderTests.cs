using System.Text.Json.Nodes;

using MoEKernels.TorchSharp;

using static TorchSharp.torch;

namespace Llama.Tests;

/// <summary>The model against the formulas in double precision.</summary>
public sealed class DecoderTests
{
    private static readonly Dictionary<string, (ModelFamily Family, Action<JsonObject> Changes)> Variants = new()
    {
        ["llama"] = (ModelFamily.Llama, _ => { }
        ),
        ["qwen2: biases of q, k and v, tied"] = (ModelFamily.Qwen2, _ => { }
        ),
        ["qwen3: normalised heads of their own width"] = (ModelFamily.Qwen3, _ => { }
        ),
        ["llama, attention_bias and mlp_bias"] = (ModelFamily.Llama, config => (config["attention_bias"], config["mlp_bias"]) = (true, true)),
        ["qwen3, attention_bias"] = (ModelFamily.Qwen3, config => config["attention_bias"] = true),
        ["llama, tied"] = (ModelFamily.Llama, config => config["tie_word_embeddings"] = true),
        ["qwen2, not tied"] = (ModelFamily.Qwen2, config => config["tie_word_embeddings"] = false),
        ["llama, head_dim"] = (ModelFamily.Llama, config => config["head_dim"] = 24),
        ["llama, every head its own keys"] = (ModelFamily.Llama, config => config["num_key_value_heads"] = 4),
        ["llama, one head of keys"] = (ModelFamily.Llama, config => config["num_key_value_heads"] = 1),
        ["llama, other base and epsilon"] = (ModelFamily.Llama, config => (config["rope_theta"], config["rms_norm_eps"]) = (500000.0, 1e-2)),
        ["llama, linear scaling"] = (ModelFamily.Llama, config => config["rope_scaling"] = new JsonObject { ["rope_type"] = "linear", ["factor"] = 4.0 }),
        ["llama, llama3 scaling"] = (ModelFamily.Llama, config => config["rope_scaling"] = Llama3()),
    };

    private static IEnumerable<string> VariantNames => Variants.Keys;

    private TemporaryFolder _folder = null!;

    [SetUp]
    public void MakeFolder() => _folder = new TemporaryFolder();

    [TearDown]
    public void DeleteFolder() => _folder.Dispose();

    [TestCaseSource(nameof(VariantNames))]
    public void Forward_OfEveryVariant_IsTheReferences(string variant)
    {
        (ModelFamily family, Action<JsonObject> changes) = Variants[variant];
        TinyModel.Write(_folder.Path, family, changes);
        int[] tokens = TinyModel.Tokens(23);
        double[] expected = [.. new ReferenceDecoder(_folder.Path).Logits(tokens).SelectMany(row => row)];

        using CausalModel model = CheckpointLoader.Load(_folder.Path, ScalarType.Float32);
        float[] got = TinyModel.Logits(model, tokens);

        AssertClose(got, expected, 2e-4);
        Assert.That(expected.Max() - expected.Min(), Is.GreaterThan(2), "the logits are too alike to tell anything");
    }

    [Test]
    public void Forward_RotaryScaling_ChangesTheLogits()
    {
        TinyModel.Write(_folder.Path, ModelFamily.Llama);
        int[] tokens = TinyModel.Tokens(23);
        double[][] plain = new ReferenceDecoder(_folder.Path).Logits(tokens);
        TinyModel.Write(_folder.Path, ModelFamily.Llama, config => config["rope_scaling"] = Llama3());
        double[][] scaled = new ReferenceDecoder(_folder.Path).Logits(tokens);

        Assert.That(plain[^1].Zip(scaled[^1], (a, b) => Math.Abs(a - b)).Max(), Is.GreaterThan(1e-2));
    }

    [Test]
    public void Forward_SharedKeys_IsThatOfRepeatedKeys()
    {
        string repeated = Path.Combine(_folder.Path, "repeated");
        TinyModel.Write(_folder.Path, ModelFamily.Llama);
        TinyModel.Write(repeated, ModelFamily.Llama, config => config["num_key_value_heads"] = 4);
        using (var scope = NewDisposeScope())
        {
            using SafetensorsCheckpoint shared = SafetensorsCheckpoint.Open(_folder.Path);
            const int headWidth = 16;
            SafetensorsCheckpoint.Save(repeated, shared.Names.Select(name =>
            {
                Tensor weight = shared.Read(name);
                bool isShared = name.Contains("k_proj", StringComparison.Ordinal) || name.Contains("v_proj", StringComparison.Ordinal);
                return KeyValuePair.Create(name, isShared ? weight.view(2, headWidth, -1).repeat_interleave(2, dim: 0).reshape(4 * headWidth, -1) : weight);
            }).ToList());
        }

        int[] tokens = TinyModel.Tokens(17);
        using CausalModel few = CheckpointLoader.Load(_folder.Path, ScalarType.Float32);
        using CausalModel many = CheckpointLoader.Load(repeated, ScalarType.Float32);

        AssertClose(TinyModel.Logits(few, tokens), [.. TinyModel.Logits(many, tokens).Select(value => (double)value)], 1e-5);
    }

    [TestCase(ScalarType.BFloat16, 0.12)]
    [TestCase(ScalarType.Float16, 0.02)]
    public void Forward_HalfPrecision_IsNearTheReferences(ScalarType dtype, double tolerance)
    {
        TinyModel.Write(_folder.Path, ModelFamily.Qwen3, dtype: dtype);
        int[] tokens = TinyModel.Tokens(9);
        double[] expected = [.. new ReferenceDecoder(_folder.Path).Logits(tokens).SelectMany(row => row)];

        using CausalModel model = CheckpointLoader.Load(_folder.Path, dtype);

        AssertClose(TinyModel.Logits(model, tokens), expected, tolerance);
        Assert.That(model.parameters().Select(parameter => parameter.dtype), Is.All.EqualTo(dtype));
    }

    [Test]
    public void Forward_AttentionDropout_ActsInTrainingOnly()
    {
        TinyModel.Write(_folder.Path, ModelFamily.Llama);
        int[] tokens = TinyModel.Tokens(9);
        using CausalModel plain = CheckpointLoader.Load(_folder.Path, ScalarType.Float32);
        TinyModel.Write(_folder.Path, ModelFamily.Llama, config => config["attention_dropout"] = 0.5);
        using CausalModel dropping = CheckpointLoader.Load(_folder.Path, ScalarType.Float32);

        Assert.That(TinyModel.Logits(dropping, tokens), Is.EqualTo(TinyModel.Logits(plain, tokens)));
        dropping.train();
        Assert.That(TinyModel.Logits(dropping, tokens), Is.Not.EqualTo(TinyModel.Logits(plain, tokens)).Within(1e-3));
    }

    [Test]
    public void Names_AreHuggingFaces()
    {
        TinyModel.Write(_folder.Path, ModelFamily.Qwen3, config => (config["num_hidden_layers"], config["tie_word_embeddings"]) = (1, false));
        using CausalModel model = CheckpointLoader.Load(_folder.Path, ScalarType.Float32);

        Assert.That(model.state_dict().Keys, Is.EquivalentTo(new[]
        {
            "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight",
            "model.layers.0.input_layernorm.weight", "model.layers.0.post_attention_layernorm.weight",
            "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight", "model.layers.0.self_attn.v_proj.weight",
            "model.layers.0.self_attn.o_proj.weight", "model.layers.0.self_attn.q_norm.weight", "model.layers.0.self_attn.k_norm.weight",
            "model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight",
        }));
    }

    [Test]
    public void Norm_OfHalfPrecision_IsComputedInSingle()
    {
        using var scope = NewDisposeScope();
        using RmsNorm norm = new(width: 4, epsilon: 1e-6, ScalarType.Float16);
        using var noGradients = no_grad();
        norm.state_dict()["weight"].fill_(1);

        // The square of 3000 is beyond f16.
        Tensor y = norm.call(tensor(new float[] { 3000, -3000, 3000, 3000 }).to(float16));

        Assert.That(y.dtype, Is.EqualTo(ScalarType.Float16));
        Assert.That(y.to(float32).data<float>().ToArray(), Is.EqualTo(new float[] { 1, -1, 1, 1 }).Within(1e-3));
    }

    [Test]
    public void Norm_OfZeros_IsZero()
    {
        using var scope = NewDisposeScope();
        using RmsNorm norm = new(width: 3, epsilon: 1e-6, ScalarType.Float32);
        using var noGradients = no_grad();
        norm.state_dict()["weight"].fill_(2);

        Assert.That(norm.call(zeros(1, 3)).data<float>().ToArray(), Is.All.Zero);
    }

    [Test]
    public void Recomputes_GradientsOfTheAdapter_AreTheSame()
    {
        TinyModel.Write(_folder.Path, ModelFamily.Llama);

        int passes = 0;
        List<float[]> kept = Gradients(recomputes: false);
        Assert.That(passes, Is.EqualTo(1));
        List<float[]> recomputed = Gradients(recomputes: true);
        Assert.That(passes, Is.EqualTo(1 + 2));
        Assert.That(recomputed, Is.EqualTo(kept));

        List<float[]> Gradients(bool recomputes)
        {
            using var scope = NewDisposeScope();
            using CausalModel model = CheckpointLoader.Load(_folder.Path, ScalarType.Float32);
            model.Recomputes = recomputes;
            manual_seed(5);
            using AdapterHandle adapter = model.AddAdapter(AdapterChoice.Configure(AdapterKind.CoMoL, 4, AdapterChoice.Projections));
            model.train();
            var norm = (RmsNorm)model.named_modules().Single(entry => entry.name == "model.layers.0.input_layernorm").module;
            norm.register_forward_pre_hook((_, input) =>
            {
                passes++;
                return input;
            });
            (Tensor inputs, Tensor targets) = TinyModel.Blocks().Batch([0, 64]);
            Perplexity.Loss(model.call(inputs), targets).backward();
            return [.. model.AdapterParameters().Where(entry => entry.parameter.grad is not null).Select(entry => entry.parameter.grad!.data<float>().ToArray())];
        }
    }

    private static JsonObject Llama3() => new()
    {
        ["rope_type"] = "llama3",
        ["factor"] = 8.0,
        ["low_freq_factor"] = 1.0,
        ["high_freq_factor"] = 4.0,
        ["original_max_position_embeddings"] = 64,
    };

    private static void AssertClose(float[] got, double[] expected, double tolerance)
    {
        Assert.That(got, Has.Length.EqualTo(expected.Length));
        double largest = got.Zip(expected, (a, b) => Math.Abs(a - b)).Max();
        Assert.That(largest, Is.LessThan(tolerance));
    }
}
