using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>Adapters that also train biases of the base model.</summary>
public sealed class BiasTests
{
    private static LoRAConfig Config(PeftBias bias) => new() { Rank = 2, TargetModules = ["query", "value", "up"], Bias = bias };

    private static void Randomize(AdapterHandle handle)
    {
        using var noGrad = no_grad();
        foreach ((_, Parameter parameter) in handle.AdapterParameters())
            nn.init.normal_(parameter);
    }

    [Test]
    public void Bias_IsTrainedSwitchedAndSaved([Values(PeftBias.All, PeftBias.LoraOnly)] PeftBias bias)
    {
        using var scope = NewDisposeScope();
        using TestModel model = new(), other = new();
        other.load_state_dict(model.state_dict());
        model.eval();
        other.eval();
        Tensor x = randn(4, 6), plain = model.call(x);
        AdapterHandle handle = model.AddAdapter("a", Config(bias));
        string[] own = [.. handle.AdapterParameters().Select(p => p.name).Where(name => name.EndsWith(".bias", StringComparison.Ordinal))];
        // value has none.
        string[] adapted = ["blocks.0.query.bias", "blocks.1.query.bias", "blocks.0.mlp.up.bias", "blocks.1.mlp.up.bias"];
        string[] rest = ["blocks.0.mlp.down.bias", "blocks.1.mlp.down.bias", "named.extra.bias", "listed.bias", "arrayed.bias", "norm.bias", "head.bias"];
        Assert.That(own, Is.EquivalentTo(bias == PeftBias.All ? [.. adapted, .. rest] : adapted));
        Assert.That(handle.SavedModulePaths, Is.Empty);
        TensorAssert.AreEqual(model.call(x), plain, "a new adapter changes nothing");

        model.call(x).square().sum().backward();
        Assert.That(handle.AdapterParameters().Where(p => own.Contains(p.name)).All(p => p.parameter.requires_grad && p.parameter.grad is not null), Is.True);
        Randomize(handle);
        Tensor trained = model.call(x);
        using (model.WithoutAdapters())
            TensorAssert.AreEqual(model.call(x), plain, "switched off");
        TensorAssert.AreEqual(model.call(x), trained, "on again");

        string path = Path.Combine(Path.GetTempPath(), $"moek-{Guid.NewGuid():N}.safetensors");
        try
        {
            handle.Save(path);
            AdapterHandle loaded = other.LoadAdapter("b", path);
            Assert.That(loaded.Configuration.Bias, Is.EqualTo(bias));
            TensorAssert.AreEqual(other.call(x), trained, "loaded");
        }
        finally
        {
            File.Delete(path);
        }
        other.MergeAndUnload();
        TensorAssert.AreCloseToScale(other.call(x), trained, 1e-4, "merged");
        model.RemoveAdapter("a");
        TensorAssert.AreEqual(model.call(x), plain, "removed");
    }

    [Test]
    public void Bias_TwoAdapters_OnlyOneAtATime_AndNotByRow()
    {
        using var scope = NewDisposeScope();
        using var model = new TestModel();
        model.AddAdapter("a", Config(PeftBias.LoraOnly));
        model.AddAdapter("b", Config(PeftBias.All));
        model.AddAdapter("c", new LoRAConfig { Rank = 2, TargetModules = ["query"], ModulesToSave = ["norm"] });
        Assert.That(() => model.SetAdapter("a", "b"), Throws.InvalidOperationException.With.Message.Contains("bias of 'blocks."));
        Assert.That(() => model.SetAdapter("b", "c"), Throws.InvalidOperationException.With.Message.Contains("norm"));
        model.SetAdapter("a", "c");
        model.eval();
        Assert.That(() => model.UseAdapters(["a"]), Throws.InvalidOperationException.With.Message.Contains("bias of 'blocks."));
        Assert.That(() => model.AddAdapter("d", Config((PeftBias)7)), Throws.InstanceOf<ArgumentOutOfRangeException>().With.Message.Contains("PeftBias"));
    }

    [Test]
    public void Peft_Names_AreThoseOfTheBaseLayer([Values(PeftBias.All, PeftBias.LoraOnly)] PeftBias bias)
    {
        using var scope = NewDisposeScope();
        using var model = new TestBlock(6);
        AdapterHandle handle = model.AddAdapter(new LoRAConfig { Rank = 1, TargetModules = ["query"], Bias = bias });
        using PeftAdapter adapter = PeftAdapter.Extract(handle);
        string[] factors = ["query.lora_A.weight", "query.lora_B.weight"];
        string[] biases = bias == PeftBias.All ? ["query.base_layer.bias", "mlp.up.bias", "mlp.down.bias"] : ["query.base_layer.bias"];
        Assert.That(adapter.Tensors.Keys, Is.EquivalentTo(factors.Concat(biases).Select(name => $"base_model.model.{name}")));
        Assert.That(adapter.Config.Bias, Is.EqualTo(bias));
    }

    [Test]
    public void Peft_OldNamesAndForgottenBiases_AreUnderstood()
    {
        using var scope = NewDisposeScope();
        var config = new PeftConfig { Rank = 1, Bias = PeftBias.LoraOnly, TargetModules = PeftModules.FromNames("query") };
        KeyValuePair<string, Tensor>[] Factors() => [new("base_model.model.query.lora_A.weight", zeros(1, 6)), new("base_model.model.query.lora_B.weight", zeros(6, 1))];
        Tensor x = randn(3, 6), own = randn(6);
        foreach (string name in new[] { "query.bias", "query.base_layer.bias" })
        {
            using var model = new TestBlock(6);
            using var adapter = new PeftAdapter(config, [.. Factors(), new($"base_model.model.{name}", own.clone())]);
            Tensor expected = nn.functional.linear(x, ((Linear)model.query).weight, own);
            adapter.Apply(model);
            TensorAssert.AreEqual(model.query.call(x), expected, name);
        }
        using var untouched = new TestBlock(6);
        Tensor before = untouched.query.call(x);
        using (var adapter = new PeftAdapter(config, Factors()))
            adapter.Apply(untouched);
        TensorAssert.AreEqual(untouched.query.call(x), before, "lora_only without biases in the file");
        using var all = new PeftAdapter(config with { Bias = PeftBias.All }, Factors());
        using var other = new TestBlock(6);
        Assert.That(() => all.Apply(other), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("query.bias"));
    }
}
