using System.Text.Json.Nodes;

using MoEKernels.TorchSharp;

using static TorchSharp.torch;

namespace Llama.Tests;

public sealed class CheckpointLoaderTests
{
    private const string Query = "model.layers.1.self_attn.q_proj.weight";

    private TemporaryFolder _folder = null!;

    [SetUp]
    public void MakeFolder() => _folder = new TemporaryFolder();

    [TearDown]
    public void DeleteFolder() => _folder.Dispose();

    [Test]
    public void Load_Shards_IsTheModelOfOneFile()
    {
        string sharded = Path.Combine(_folder.Path, "sharded");
        TinyModel.Write(_folder.Path, ModelFamily.Llama);
        TinyModel.Write(sharded, ModelFamily.Llama, shards: 4);
        Assert.That(File.Exists(Path.Combine(sharded, SafetensorsCheckpoint.IndexFileName)), Is.True);
        Assert.That(Directory.EnumerateFiles(sharded, "model-*.safetensors").Count(), Is.GreaterThan(2));

        int[] tokens = TinyModel.Tokens(12);
        using CausalModel one = CheckpointLoader.Load(_folder.Path, ScalarType.Float32);
        using CausalModel many = CheckpointLoader.Load(sharded, ScalarType.Float32);

        Assert.That(TinyModel.Logits(many, tokens), Is.EqualTo(TinyModel.Logits(one, tokens)));
    }

    [TestCase(ScalarType.BFloat16)]
    [TestCase(ScalarType.Float16)]
    public void Load_HalfPrecisionFiles_GivesTheirValuesInSingle(ScalarType dtype)
    {
        TinyModel.Write(_folder.Path, ModelFamily.Qwen2, dtype: dtype);
        using var scope = NewDisposeScope();
        using SafetensorsCheckpoint checkpoint = SafetensorsCheckpoint.Open(_folder.Path);

        using CausalModel model = CheckpointLoader.Load(_folder.Path, ScalarType.Float32);

        foreach ((string name, Tensor got) in model.state_dict())
        {
            Tensor stored = checkpoint.Read(name);
            Assert.That(stored.dtype, Is.EqualTo(dtype));
            Assert.That(got.data<float>().ToArray(), Is.EqualTo(stored.to(float32).data<float>().ToArray()), name);
        }
    }

    [Test]
    public void Load_ReportsUpToTheLastLayer()
    {
        TinyModel.Write(_folder.Path, ModelFamily.Llama);
        List<int> steps = [];

        using CausalModel model = CheckpointLoader.Load(_folder.Path, ScalarType.Float32, new Recorder(steps));

        Assert.That(steps, Is.Ordered);
        Assert.That(steps[^1], Is.EqualTo(2));
    }

    [Test]
    public void Load_OldRotaryFrequencies_AreIgnored()
    {
        TinyModel.Write(_folder.Path, ModelFamily.Llama);
        Change(tensors => tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = ones(8));

        Assert.That(Load, Throws.Nothing);
    }

    [Test]
    public void Load_TiedOutputOnceMore_IsTakenWhereItIsTheEmbedding()
    {
        TinyModel.Write(_folder.Path, ModelFamily.Qwen2);
        Change(tensors => tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone());
        Assert.That(Load, Throws.Nothing);

        Change(tensors => tensors["lm_head.weight"].add_(1));
        Assert.That(Message(), Does.Contain("lm_head.weight").And.Contain("model.embed_tokens.weight").And.Contain("tie_word_embeddings"));
    }

    [Test]
    public void Load_MissingTensor_NamesItAndItsShape()
    {
        TinyModel.Write(_folder.Path, ModelFamily.Llama);
        Change(tensors => tensors.Remove(Query));

        Assert.That(Message(), Does.Contain("lacks 1 tensor").And.Contain(Query).And.Contain("[64, 64]"));
    }

    [Test]
    public void Load_TensorTooMuch_NamesIt()
    {
        TinyModel.Write(_folder.Path, ModelFamily.Llama);
        Change(tensors => tensors["model.layers.2.mlp.up_proj.weight"] = zeros(3, 5));

        Assert.That(Message(), Does.Contain("model.layers.2.mlp.up_proj.weight").And.Contain("[3, 5]").And.Contain("no place"));
    }

    [Test]
    public void Load_UntiedModelWithoutOutput_NamesIt()
    {
        TinyModel.Write(_folder.Path, ModelFamily.Llama);
        Change(tensors => tensors.Remove("lm_head.weight"));

        Assert.That(Message(), Does.Contain("lm_head.weight").And.Contain("[512, 64]"));
    }

    [Test]
    public void Load_WrongShape_NamesGotAndExpected()
    {
        TinyModel.Write(_folder.Path, ModelFamily.Llama);
        Change(tensors => tensors[Query] = zeros(64, 32));

        Assert.That(Message(), Does.Contain(Query).And.Contain("[64, 32]").And.Contain("expected [64, 64]"));
    }

    [Test]
    public void Load_WholeNumbers_NamesGotAndExpected()
    {
        TinyModel.Write(_folder.Path, ModelFamily.Llama);
        Change(tensors => tensors[Query] = zeros([64, 64], ScalarType.Byte));

        Assert.That(Message(), Does.Contain(Query).And.Contain("U8").And.Contain("F32, BF16, F16"));
    }

    [Test]
    public void Load_BiasesThatTheConfigurationDenies_NamesOne()
    {
        TinyModel.Write(_folder.Path, ModelFamily.Llama, config => config["attention_bias"] = true);
        string config = Path.Combine(_folder.Path, ModelConfigReader.FileName);
        JsonObject json = JsonNode.Parse(File.ReadAllText(config))!.AsObject();
        json["attention_bias"] = false;
        File.WriteAllText(config, json.ToJsonString());

        Assert.That(Message(), Does.Contain("8 tensors").And.Contain("model.layers.0.self_attn.k_proj.bias"));
    }

    [Test]
    public void Load_NoWeights_SaysWhichFilesWereLookedFor()
    {
        TinyModel.Write(_folder.Path, ModelFamily.Llama);
        File.Delete(Path.Combine(_folder.Path, SafetensorsCheckpoint.FileName));

        Assert.That(Message(), Does.Contain(SafetensorsCheckpoint.FileName).And.Contain(SafetensorsCheckpoint.IndexFileName));
    }

    [Test]
    public void Load_DamagedFile_NamesIt()
    {
        TinyModel.Write(_folder.Path, ModelFamily.Llama);
        string path = Path.Combine(_folder.Path, SafetensorsCheckpoint.FileName);
        File.WriteAllBytes(path, File.ReadAllBytes(path)[..^10]);

        Assert.That(Message(), Does.Contain(path));
    }

    [Test]
    public void Load_MissingShard_NamesIt()
    {
        TinyModel.Write(_folder.Path, ModelFamily.Llama, shards: 3);
        string shard = Directory.EnumerateFiles(_folder.Path, "model-00002-*").Single();
        File.Delete(shard);

        Assert.That(Message(), Does.Contain(Path.GetFileName(shard)));
    }

    private string Message() => Assert.Throws<UserException>(Load)!.Message;

    private void Load() => CheckpointLoader.Load(_folder.Path, ScalarType.Float32).Dispose();

    private void Change(Action<Dictionary<string, Tensor>> change)
    {
        using var scope = NewDisposeScope();
        string path = Path.Combine(_folder.Path, SafetensorsCheckpoint.FileName);
        Dictionary<string, Tensor> tensors = new(SafetensorsFile.Load(path));
        change(tensors);
        SafetensorsFile.Save(path, tensors);
    }

    private sealed class Recorder(List<int> steps) : IProgress<StepReport>
    {
        public void Report(StepReport value) => steps.Add(value.Step);
    }
}
