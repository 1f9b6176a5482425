using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>CAT of LoRA Soups: frozen adapters side by side, with a trainable weight each.</summary>
public sealed class CatTests
{
    private const long Width = 6;

    private static TestBlock NewModel(ScalarType type = ScalarType.Float64)
    {
        manual_seed(2);
        var model = new TestBlock(Width);
        model.to(type);
        return model;
    }

    /// <summary>A LoRA for some of the block's layers, with random factors.</summary>
    private static PeftAdapter Lora(long rank, double alpha, params string[] paths) => new(
        new PeftConfig { Rank = rank, Alpha = alpha, TargetModules = PeftModules.FromNames(paths), RankPattern = new Dictionary<string, long> { ["value"] = rank + 1 } },
        paths.SelectMany(path =>
        {
            long own = path == "value" ? rank + 1 : rank;
            (long dIn, long dOut) = path switch { "mlp.up" => (Width, 2 * Width), "mlp.down" => (2 * Width, Width), _ => (Width, Width) };
            return new[]
            {
                KeyValuePair.Create($"base_model.model.{path}.lora_A.weight", randn(own, dIn, dtype: ScalarType.Float64)),
                KeyValuePair.Create($"base_model.model.{path}.lora_B.weight", randn(dOut, own, dtype: ScalarType.Float64)),
            };
        }).ToArray());

    private static PeftAdapter[] Adapters() => [Lora(2, 8, "query", "value"), Lora(3, 1, "query", "mlp.up"), Lora(1, -2, "query")];

    private static Tensor HandMade(TestBlock model, AdapterHandle handle, PeftAdapter[] adapters, Tensor x, string path)
    {
        var cat = (CatLinear)handle.Layers[path];
        Tensor y = cat.BaseLayer.call(x);
        PeftAdapter[] own = [.. adapters.Where(adapter => adapter.Layers.ContainsKey(path))];
        for (int i = 0; i < own.Length; i++)
            y += x.matmul(own[i].Layers[path].Delta().t()) * cat.Weights[i];
        return y;
    }

    [Test]
    public void Forward_IsTheWeightedSum_AndOneLoRA_AndTheMergedWeight()
    {
        using var scope = NewDisposeScope();
        using TestBlock model = NewModel();
        PeftAdapter[] adapters = Adapters();
        AdapterHandle handle = model.AddCat("soup", adapters);
        Assert.That(handle.Layers.Keys, Is.EquivalentTo(new[] { "query", "value", "mlp.up" }));
        Assert.That(handle.AdapterParameters().Sum(p => p.parameter.numel()), Is.EqualTo(3 + 1 + 1), "a scalar for each adapter and layer");
        Assert.That(((CatLinear)handle.Layers["query"]).Weights.Sum(), Is.EqualTo(1).Within(1e-12));
        Tensor x = randn(4, 3, Width, dtype: ScalarType.Float64);
        foreach ((string path, AdapterLinear layer) in handle.Layers)
            TensorAssert.AreClose(layer.Layer.Forward(x), HandMade(model, handle, adapters, x, path), 1e-12, 1e-12, path);

        Tensor expected = model.call(x);
        using PeftAdapter one = PeftAdapter.ExtractAsLora(handle);
        Assert.That((one.Layers["query"].Rank, one.Layers["value"].Rank, one.Layers["query"].Scale), Is.EqualTo((6, 3, 1.0)));
        using PeftAdapter same = PeftMath.Concatenate(adapters, ((CatLinear)handle.Layers["query"]).Weights);
        TensorAssert.AreClose(one.Layers["query"].Delta(), same.Layers["query"].Delta(), 1e-12, 1e-12, "PEFT's cat");
        TensorAssert.AreClose(handle.Layers["query"].Delta(), same.Layers["query"].Delta(), 1e-12, 1e-12, "Delta");
        using TestBlock other = NewModel();
        one.Apply(other);
        TensorAssert.AreClose(other.call(x), expected, 1e-11, 1e-11, "as one LoRA");
        handle.Merge();
        TensorAssert.AreClose(model.call(x), expected, 1e-11, 1e-11, "merged");
        handle.Unmerge();
        TensorAssert.AreEqual(model.call(x), expected);
        model.MergeAndUnload();
        TensorAssert.AreClose(model.call(x), expected, 1e-11, 1e-11, "for good");
    }

    [Test]
    public void Backward_OnlyTheWeightsTrain_AndTheirGradientsSumToZero()
    {
        using var scope = NewDisposeScope();
        using TestBlock model = NewModel();
        AdapterHandle handle = model.AddCat("soup", Adapters());
        Assert.That(model.parameters().Where(p => p.requires_grad).Select(p => p.numel()), Is.EquivalentTo(new long[] { 3, 1, 1 }));
        Tensor x = randn(5, Width, dtype: ScalarType.Float64);
        GradientCheck.WeightedSum(model.call(x), 4).backward();
        Parameter logits = handle.Layers["query"].get_parameter("cat_logits")!;
        Assert.That(logits.grad!.abs().max().item<double>(), Is.GreaterThan(1e-3));
        Assert.That(logits.grad!.sum().item<double>(), Is.Zero.Within(1e-12), "a common shift of c changes nothing");
        for (int i = 0; i < 3; i++)
        {
            double Loss(double offset)
            {
                using var noGrad = no_grad();
                logits[i] += offset;
                double loss = GradientCheck.WeightedSum(model.call(x), 4).item<double>();
                logits[i] -= offset;
                return loss;
            }
            Assert.That(logits.grad![i].item<double>(), Is.EqualTo((Loss(1e-5) - Loss(-1e-5)) / 2e-5).Within(1e-6), $"dc[{i}]");
        }
    }

    [Test]
    public void Training_FindsTheMixtureOfTwoSkills()
    {
        using var scope = NewDisposeScope();
        using TestBlock model = NewModel();
        PeftAdapter[] adapters = [Lora(2, 2, "query"), Lora(2, 2, "query")];
        var cat = (CatLinear)model.AddCat("soup", adapters).Layers["query"];
        Tensor x = randn(64, Width, dtype: ScalarType.Float64);
        Tensor target = (cat.BaseLayer.call(x) + x.matmul((adapters[0].Layers["query"].Delta() * 0.7 + adapters[1].Layers["query"].Delta() * 0.3).t())).detach();
        using var optimizer = optim.Adam([cat.get_parameter("cat_logits")!], lr: 0.1);
        for (int step = 0; step < 200; step++)
        {
            using var inner = NewDisposeScope();
            optimizer.zero_grad();
            nn.functional.mse_loss(cat.call(x), target).backward();
            optimizer.step();
        }
        Assert.That(cat.Weights, Is.EqualTo(new[] { 0.7, 0.3 }).Within(1e-3));
    }

    [Test]
    public void SaveAndLoad_BringFactorsAndWeights()
    {
        using var scope = NewDisposeScope();
        using TestBlock model = NewModel(ScalarType.Float32), other = NewModel(ScalarType.Float32);
        string path = Path.Combine(Path.GetTempPath(), $"moek-{Guid.NewGuid():N}.safetensors");
        try
        {
            model.AddCat("soup", Adapters());
            model.SaveAdapter(path);
            AdapterHandle loaded = other.LoadAdapter("again", path);
            Assert.That(loaded.Configuration, Is.InstanceOf<CatConfig>());
            Tensor x = randn(3, Width);
            TensorAssert.AreEqual(other.call(x), model.call(x));
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Test]
    public void AddCat_HalfPrecisionBase_KeepsFactorsAndWeightsInSingle_AndRowsMayUseIt()
    {
        using var scope = NewDisposeScope();
        using TestBlock model = NewModel(ScalarType.BFloat16);
        AdapterHandle handle = model.AddCat("soup", Adapters());
        Assert.That(handle.NamedTensors().Select(t => t.Tensor.dtype), Is.All.EqualTo(ScalarType.Float32));
        Tensor x = randn(2, Width).to(ScalarType.BFloat16);
        model.eval();
        Tensor y = model.call(x);
        using (model.UseAdapters(["soup", "soup"]))
            TensorAssert.AreEqual(model.call(x), y);
        model.ToKeepingAdapters(ScalarType.Float32);
        model.to(ScalarType.BFloat16);
        Assert.That(handle.NamedTensors().Select(t => t.Tensor.dtype), Is.All.EqualTo(ScalarType.BFloat16));
    }

    [Test]
    public void AddCat_WhatDoesNotFit_IsNamed_AndTheModelStaysAsItWas()
    {
        using var scope = NewDisposeScope();
        using TestBlock model = NewModel();
        string[] names = [.. model.state_dict().Keys];
        PeftAdapter good = Lora(2, 2, "query"), missing = Lora(2, 2, "query", "key"), wide = new(new PeftConfig { Rank = 1 },
            [new("base_model.model.query.lora_A.weight", ones(1, 7)), new("base_model.model.query.lora_B.weight", ones(6, 1))]);
        PeftAdapter dora = new(new PeftConfig { Rank = 1, UseDora = true }, [new("base_model.model.query.lora_A.weight", ones(1, 6)),
            new("base_model.model.query.lora_B.weight", ones(6, 1)), new("base_model.model.query.lora_magnitude_vector", ones(6))]);
        Assert.That(() => model.AddCat("soup", []), Throws.ArgumentException.With.Message.Contains("no adapter"));
        Assert.That(() => model.AddCat("soup", [good, missing]), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("'key'"));
        Assert.That(() => model.AddCat("soup", [good, wide]), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("7 to 6"));
        Assert.That(() => model.AddCat("soup", [good, dora]), Throws.InstanceOf<NotSupportedException>().With.Message.Contains("use_dora"));
        Assert.That(() => model.AddAdapter(new CatConfig()), Throws.ArgumentException.With.Message.Contains("LayerRanks"));
        Assert.That(() => model.AddAdapter(new CatConfig { LayerRanks = new Dictionary<string, IReadOnlyList<long>> { ["query"] = [0] } }), Throws.ArgumentException.With.Message.Contains("'query'"));
        Assert.That(model.state_dict().Keys, Is.EqualTo(names));
        AdapterHandle handle = model.AddCat("soup", [good]);
        Assert.That(() => PeftAdapter.Extract(handle), Throws.InstanceOf<NotSupportedException>().With.Message.Contains("ExtractAsLora"));
        AdapterHandle smora = model.AddAdapter("smora", new SMoRAConfig());
        Assert.That(() => PeftAdapter.ExtractAsLora(smora), Throws.InstanceOf<NotSupportedException>().With.Message.Contains("SMoRALinear"));
    }
}
