using MoEKernels.TorchSharp;

using static TorchSharp.torch;

namespace Llama.Tests;

/// <summary>Every adapter on a model: added, trained, saved, loaded.</summary>
public sealed class AdapterTests
{
    private TemporaryFolder _folder = null!;

    private string ModelFolder => Path.Combine(_folder.Path, "model");

    private string AdapterPath => Path.Combine(_folder.Path, "adapter");

    private static IEnumerable<string> Names => AdapterKinds.List.Split(", ");

    [SetUp]
    public void MakeFolder() => _folder = new TemporaryFolder();

    [TearDown]
    public void DeleteFolder() => _folder.Dispose();

    [TestCaseSource(nameof(Names))]
    public void Load_IntoAFreshModel_GivesTheTrainedLogits(string name)
    {
        TinyModel.Write(ModelFolder, ModelFamily.Llama);
        int[] tokens = TinyModel.Tokens(10);
        using CausalModel model = LoadModel();
        float[] untrained = TinyModel.Logits(model, tokens);
        using AdapterHandle adapter = Train(model, name, steps: 4);
        float[] trained = TinyModel.Logits(model, tokens);
        AdapterFolder.Save(adapter, AdapterPath);

        using CausalModel fresh = LoadModel();
        using AdapterHandle loaded = AdapterFolder.Load(fresh, AdapterPath);
        fresh.eval();
        float[] again = TinyModel.Logits(fresh, tokens);

        Assert.That(trained.Zip(untrained, (a, b) => Math.Abs(a - b)).Max(), Is.GreaterThan(1e-3), "training has changed nothing");

        // PiSSA and MiLoRA take a part of the base weight out of it, which rounds.
        bool rounds = name is "pissa" or "milora";
        Assert.That(again, rounds ? Is.EqualTo(trained).Within(1e-4) : Is.EqualTo(trained));
        Assert.That(loaded.Layers, Has.Count.EqualTo(14));
    }

    [TestCaseSource(nameof(Names))]
    public void Save_FormOfTheFolder_IsPeftsWherePeftHasOne(string name)
    {
        TinyModel.Write(ModelFolder, ModelFamily.Qwen3, config => config["num_hidden_layers"] = 1);
        using CausalModel model = LoadModel();
        using AdapterHandle adapter = model.AddAdapter(AdapterChoice.Configure(AdapterKinds.Parse(name, ""), 4, ["q_proj"]));

        // What an earlier run has left must not be mistaken for this one's.
        _folder.Write("adapter/adapter.safetensors", "old");
        _folder.Write("adapter/adapter_config.json", "old");
        _folder.Write("adapter/adapter_model.safetensors", "old");
        _folder.Write("adapter/notes.txt", "mine");
        IReadOnlyList<string> files = AdapterFolder.Save(adapter, AdapterPath);

        string[] expected = name is "milora" or "loha" or "lokr" ? ["adapter.safetensors"] : ["adapter_config.json", "adapter_model.safetensors"];
        Assert.That(files.Select(Path.GetFileName), Is.EqualTo(expected));
        Assert.That(Directory.EnumerateFiles(AdapterPath).Select(Path.GetFileName), Is.EquivalentTo(expected.Append("notes.txt")));
    }

    [Test]
    public void Save_Lora_HasPeftsKeysForTheModelsLayers()
    {
        TinyModel.Write(ModelFolder, ModelFamily.Llama);
        using CausalModel model = LoadModel();
        using AdapterHandle adapter = model.AddAdapter(AdapterChoice.Configure(AdapterKind.Lora, 4, AdapterChoice.Projections));
        AdapterFolder.Save(adapter, AdapterPath);

        using SafetensorsReader file = SafetensorsReader.Open(Path.Combine(AdapterPath, PeftAdapter.WeightsFileName));
        string[] projections = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"];
        var expected =
            from layer in (int[])[0, 1]
            from projection in projections
            from factor in (string[])["lora_A", "lora_B"]
            select $"base_model.model.model.layers.{layer}.{projection}.{factor}.weight";
        Assert.That(file.Entries.Select(entry => entry.Name), Is.EquivalentTo(expected));
        Assert.That(PeftConfig.Load(Path.Combine(AdapterPath, PeftConfig.FileName)).Targets("model.layers.1.mlp.down_proj"), Is.True);
    }

    [Test]
    public void Load_FolderThatPeftWrote_IsTheModelWithTheUpdateAddedToItsWeights()
    {
        const string path = "model.layers.1.mlp.down_proj";
        TinyModel.Write(ModelFolder, ModelFamily.Qwen2);
        using var scope = NewDisposeScope();
        manual_seed(4);
        Tensor a = randn(2, 128);
        Tensor b = randn(64, 2) * 0.1;
        Directory.CreateDirectory(AdapterPath);
        SafetensorsFile.Save(
            Path.Combine(AdapterPath, "adapter_model.safetensors"),
            new Dictionary<string, Tensor> { [$"base_model.model.{path}.lora_A.weight"] = a, [$"base_model.model.{path}.lora_B.weight"] = b });
        _folder.Write(
            "adapter/adapter_config.json",
            """
            {
              "base_model_name_or_path": "some/model", "bias": "none", "fan_in_fan_out": false, "inference_mode": true, "init_lora_weights": true,
              "layers_to_transform": [1], "lora_alpha": 6, "lora_dropout": 0.1, "modules_to_save": null, "peft_type": "LORA", "r": 2,
              "target_modules": ["down_proj"], "task_type": "CAUSAL_LM", "use_dora": false, "use_rslora": false
            }
            """);
        using CausalModel adapted = LoadModel();
        using AdapterHandle adapter = AdapterFolder.Load(adapted, AdapterPath);
        adapted.eval();

        using CausalModel added = LoadModel();
        using (no_grad())
            added.state_dict()[$"{path}.weight"].add_(b.matmul(a) * 3);

        int[] tokens = TinyModel.Tokens(9);
        float[] expected = TinyModel.Logits(added, tokens);
        Assert.That(TinyModel.Logits(adapted, tokens), Is.EqualTo(expected).Within(1e-4));
        using (adapted.WithoutAdapters())
            Assert.That(TinyModel.Logits(adapted, tokens), Is.Not.EqualTo(expected).Within(1e-2));
    }

    [Test]
    public void Run_ManySteps_LowersTheLoss()
    {
        TinyModel.Write(ModelFolder, ModelFamily.Llama);
        using CausalModel model = LoadModel();
        TokenBlocks blocks = TinyModel.Blocks();
        double before = Perplexity.Of(model, blocks, 4, CancellationToken.None);
        using AdapterHandle adapter = model.AddAdapter(AdapterChoice.Configure(AdapterKind.SMoRA, 8, AdapterChoice.Projections));

        // On one block, which it can learn by heart.
        IReadOnlyList<double> losses = new Trainer(model, adapter, OneBlock()).Run(new TrainingPlan(Steps: 40, Batch: 1, LearningRate: 1e-2, Seed: 1));

        Assert.That(losses[^1], Is.LessThan(losses[0] - 2));
        Assert.That(before, Is.InRange(300, 3000), "random weights know nothing of 512 tokens");
    }

    [Test]
    public void Run_SameSeed_GivesTheSameLosses()
    {
        TinyModel.Write(ModelFolder, ModelFamily.Llama);

        IReadOnlyList<double> first = Losses();

        Assert.That(Losses(), Is.EqualTo(first));

        IReadOnlyList<double> Losses()
        {
            using CausalModel model = LoadModel();
            manual_seed(7);
            using AdapterHandle adapter = model.AddAdapter(AdapterChoice.Configure(AdapterKind.SMoRA, 4, AdapterChoice.Projections));
            return new Trainer(model, adapter, TinyModel.Blocks()).Run(new TrainingPlan(Steps: 3, Batch: 2, LearningRate: 1e-3, Seed: 1));
        }
    }

    [TestCase(ScalarType.BFloat16)]
    [TestCase(ScalarType.Float16)]
    public void Run_HalfPrecisionBase_KeepsTheAdapterInSingle(ScalarType dtype)
    {
        TinyModel.Write(ModelFolder, ModelFamily.Qwen2);
        using CausalModel model = CheckpointLoader.Load(ModelFolder, dtype);
        using AdapterHandle adapter = model.AddAdapter(AdapterChoice.Configure(AdapterKind.SMoRA, 4, AdapterChoice.Projections));

        IReadOnlyList<double> losses = new Trainer(model, adapter, TinyModel.Blocks()).Run(new TrainingPlan(Steps: 2, Batch: 1, LearningRate: 1e-3, Seed: 1));

        Assert.That(losses, Is.All.InRange(3, 20));
        Assert.That(adapter.AdapterParameters().Select(entry => entry.parameter.dtype), Is.All.EqualTo(ScalarType.Float32));
        Assert.That(adapter.AdapterParameters().Any(entry => entry.parameter.grad is not null), Is.True);
    }

    [Test]
    public void Run_FrozenWeights_StayAsTheyAre()
    {
        TinyModel.Write(ModelFolder, ModelFamily.Llama);
        using CausalModel model = LoadModel();
        float[] before = Table(model);
        using AdapterHandle adapter = Train(model, "smora", steps: 2);

        Assert.That(Table(model), Is.EqualTo(before));
        Assert.That(model.parameters().Count(parameter => parameter.requires_grad), Is.EqualTo(adapter.AdapterParameters().Count(entry => entry.parameter.requires_grad)));

        static float[] Table(CausalModel model) => model.state_dict()["model.embed_tokens.weight"].data<float>().ToArray();
    }

    [Test]
    public void Run_SMoRA_MovesTheLoadBiases()
    {
        TinyModel.Write(ModelFolder, ModelFamily.Llama);
        using CausalModel model = LoadModel();
        using AdapterHandle adapter = Train(model, "smora", steps: 2);

        Assert.That(model.state_dict()["model.layers.0.self_attn.q_proj.lora_biases"].data<float>().ToArray(), Has.Some.Not.Zero);
    }

    [Test]
    public void Load_WhereNoAdapterIs_SaysWhichFilesWereLookedFor()
    {
        TinyModel.Write(ModelFolder, ModelFamily.Llama);
        using CausalModel model = LoadModel();

        string message = Assert.Throws<UserException>(() => AdapterFolder.Load(model, _folder.Path)).Message;

        Assert.That(message, Does.Contain(_folder.Path).And.Contain("adapter_config.json").And.Contain("adapter.safetensors"));
    }

    [Test]
    public void Load_AdapterOfAnotherModel_NamesTheLayer()
    {
        TinyModel.Write(ModelFolder, ModelFamily.Llama);
        using (CausalModel model = LoadModel())
        {
            using AdapterHandle adapter = model.AddAdapter(AdapterChoice.Configure(AdapterKind.Lora, 4, AdapterChoice.Projections));
            AdapterFolder.Save(adapter, AdapterPath);
        }

        string other = Path.Combine(_folder.Path, "other");
        TinyModel.Write(other, ModelFamily.Llama, config => config["num_hidden_layers"] = 1);
        using CausalModel smaller = CheckpointLoader.Load(other, ScalarType.Float32);

        Assert.That(Assert.Throws<UserException>(() => AdapterFolder.Load(smaller, AdapterPath)).Message, Does.Contain("model.layers.1."));
    }

    [Test]
    public void Load_DamagedAdapter_NamesTheFile()
    {
        TinyModel.Write(ModelFolder, ModelFamily.Llama);
        using CausalModel model = LoadModel();
        _folder.Write("adapter/adapter_config.json", "{}");
        string weights = _folder.Write("adapter/adapter_model.safetensors", "no tensors");

        Assert.That(Assert.Throws<UserException>(() => AdapterFolder.Load(model, AdapterPath)).Message, Does.Contain(AdapterPath));
        Assert.That(File.Exists(weights), Is.True);
    }

    private CausalModel LoadModel() => CheckpointLoader.Load(ModelFolder, ScalarType.Float32);

    private static TokenBlocks OneBlock() => TokenBlocks.Cut([TinyModel.Tokens(33)], end: null, context: 16);

    private static AdapterHandle Train(CausalModel model, string name, int steps)
    {
        manual_seed(11);
        AdapterHandle adapter = model.AddAdapter(AdapterChoice.Configure(AdapterKinds.Parse(name, ""), 4, AdapterChoice.Projections));
        new Trainer(model, adapter, TinyModel.Blocks()).Run(new TrainingPlan(steps, Batch: 2, LearningRate: 1e-2, Seed: 1));
        return adapter;
    }
}
