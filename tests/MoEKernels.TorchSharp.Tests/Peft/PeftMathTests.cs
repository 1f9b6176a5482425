using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

public sealed class PeftMathTests
{
    private const string Q0 = "model.layers.0.self_attn.q_proj";

    private readonly List<PeftAdapter> _made = [];

    [TearDown]
    public void Free()
    {
        foreach (PeftAdapter adapter in _made)
            adapter.Dispose();
        _made.Clear();
    }

    private PeftAdapter Lora(ulong seed, long rank, double alpha, params string[] paths) =>
        Keep(PeftFixtures.Lora(seed, PeftFixtures.Config(rank, alpha), paths.Length == 0 ? null : paths));

    private PeftAdapter Keep(PeftAdapter adapter)
    {
        _made.Add(adapter);
        return adapter;
    }

    [Test]
    public void Concatenate_IsTheWeightedSum_RanksAndLayersMayDiffer()
    {
        using var scope = NewDisposeScope();
        PeftAdapter first = Lora(1, 3, 6), second = Lora(2, 2, 5), third = Keep(PeftFixtures.Lora(3, PeftFixtures.Config(4, 8) with { UseRsLora = true }, [Q0]));
        PeftAdapter[] adapters = [first, second, third];
        double[] weights = [0.5, -2, 1.5];
        PeftAdapter sum = Keep(PeftMath.Concatenate(adapters, weights));
        Assert.That(sum.Layers.Keys, Is.EquivalentTo(first.Layers.Keys));
        foreach ((string path, PeftLayer layer) in sum.Layers)
        {
            Assert.That(layer.Scale, Is.EqualTo(1), path);
            Assert.That(layer.Rank, Is.EqualTo(adapters.Where(a => a.Layers.ContainsKey(path)).Sum(a => a.Layers[path].Rank)), path);
            TensorAssert.AreClose(layer.Delta(), DenseSum(adapters, weights, path), 1e-5, 1e-5, path);
        }
        Assert.That(sum.Config.Rank, Is.EqualTo(5), "the usual one");
        Assert.That(sum.Config.RankPattern.Values, Is.EqualTo(new[] { 9L }), "the layer that the third adapter has too");
        Assert.That(sum.Config.TargetModules!.Names, Is.EqualTo(new[] { "q_proj", "v_proj" }));
    }

    [Test]
    public void Concatenate_SurvivesSavingAndLoading()
    {
        using var scope = NewDisposeScope();
        PeftAdapter sum = Keep(PeftMath.Concatenate([Lora(1, 3, 6), Lora(2, 2, 5, Q0)]));
        using MemoryStream json = new(), weights = new();
        sum.Save(json, weights);
        (json.Position, weights.Position) = (0, 0);
        PeftAdapter loaded = Keep(PeftAdapter.Load(json, weights));
        foreach ((string path, PeftLayer layer) in sum.Layers)
            TensorAssert.AreEqual(loaded.Layers[path].Delta(), layer.Delta(), path);
    }

    [Test]
    public void Concatenate_PathsThatEndWithOneAnother_KeepTheirRanks()
    {
        using var scope = NewDisposeScope();
        PeftAdapter first = Lora(1, 2, 2, "q_proj", "m.q_proj", "x.m.q_proj"), second = Lora(2, 3, 3, "q_proj");
        PeftAdapter sum = Keep(PeftMath.Concatenate([first, second]));
        Assert.That(sum.Layers.ToDictionary(l => l.Key, l => l.Value.Rank), Is.EquivalentTo(new Dictionary<string, long> { ["q_proj"] = 5, ["m.q_proj"] = 2, ["x.m.q_proj"] = 2 }));
        Assert.That(sum.Layers.Values.Select(l => l.Scale), Is.All.EqualTo(1));
    }

    [Test]
    public void Linear_IsTheConcatenationAndExactlyTheCrossTerms()
    {
        using var scope = NewDisposeScope();
        PeftAdapter[] adapters = [Lora(1, 3, 6), Lora(2, 3, 5), Lora(3, 3, 4)];
        double[] weights = [0.5, -2, 1.5];
        PeftAdapter cat = Keep(PeftMath.Concatenate(adapters, weights));
        PeftAdapter root = Keep(PeftMath.Linear(adapters, weights)), onB = Keep(PeftMath.Linear(adapters, weights, LinearMerge.WeightsOnB));
        foreach (string path in cat.Layers.Keys)
        {
            PeftLayer[] layers = [.. adapters.Select(a => a.Layers[path])];
            double[] v = [.. layers.Select((l, i) => l.Scale * weights[i])];
            Tensor rootCross = zeros(layers[0].OutFeatures, 8, dtype: ScalarType.Float64), onBCross = rootCross.clone();
            for (int i = 0; i < 3; i++)
            {
                for (int j = 0; j < 3; j++)
                {
                    if (i == j)
                        continue;
                    Tensor product = layers[i].B.to(ScalarType.Float64).matmul(layers[j].A.to(ScalarType.Float64));
                    rootCross += product * (Math.Sign(v[j]) * Math.Sqrt(Math.Abs(v[i] * v[j])));
                    onBCross += product * v[i];
                }
            }
            TensorAssert.AreClose(root.Layers[path].Delta() - cat.Layers[path].Delta(), rootCross, 1e-4, 1e-4, path);
            TensorAssert.AreClose(onB.Layers[path].Delta() - cat.Layers[path].Delta(), onBCross, 1e-4, 1e-4, path);
            Assert.That(root.Layers[path].Rank, Is.EqualTo(3));
        }
    }

    [Test]
    public void Linear_OneAdapter_IsTheAdapterTimesItsWeight()
    {
        using var scope = NewDisposeScope();
        PeftAdapter adapter = Lora(1, 3, 6), linear = Keep(PeftMath.Linear([adapter], [-0.5]));
        foreach ((string path, PeftLayer layer) in adapter.Layers)
            TensorAssert.AreClose(linear.Layers[path].Delta(), layer.Delta() * -0.5, 1e-5, 1e-6, path);
    }

    [Test]
    public void Compress_ToTheFullRank_IsTheIdentity_ToLess_IsTheBestApproximation()
    {
        using var scope = NewDisposeScope();
        PeftAdapter sum = Keep(PeftMath.Concatenate([Lora(1, 2, 6), Lora(2, 3, 5)]));
        PeftAdapter full = Keep(PeftMath.Compress(sum, 5)), more = Keep(PeftMath.Compress(sum, 50)), less = Keep(PeftMath.Compress(sum, 2));
        foreach ((string path, PeftLayer layer) in sum.Layers)
        {
            Tensor delta = layer.Delta();
            // v_proj has four outputs, so its update has rank 4 at most.
            Assert.That(full.Layers[path].Rank, Is.EqualTo(Math.Min(5, layer.OutFeatures)), path);
            TensorAssert.AreClose(full.Layers[path].Delta(), delta, 1e-5, 1e-4, path);
            TensorAssert.AreClose(more.Layers[path].Delta(), delta, 1e-5, 1e-4, path);
            (_, Tensor s, _) = linalg.svd(delta.to(ScalarType.Float64), fullMatrices: false);
            double best = Math.Sqrt(s.narrow(0, 2, s.size(0) - 2).square().sum().item<double>());
            double got = (less.Layers[path].Delta() - delta).to(ScalarType.Float64).norm().item<double>();
            Assert.That(got, Is.EqualTo(best).Within(1e-5 * s[0].item<double>()), $"{path}: Eckart-Young");
            Assert.That(less.Layers[path].Rank, Is.EqualTo(2));
        }
    }

    [Test]
    public void AddScaleNegate_Identities()
    {
        using var scope = NewDisposeScope();
        PeftAdapter first = Lora(1, 2, 6), second = Lora(2, 3, 5);
        PeftAdapter sum = Keep(PeftMath.Add(first, second)), back = Keep(PeftMath.Add(sum, Keep(PeftMath.Negate(second))));
        PeftAdapter twice = Keep(PeftMath.Scale(first, 2)), negated = Keep(PeftMath.Negate(first)), none = Keep(PeftMath.Scale(first, 0));
        foreach ((string path, PeftLayer layer) in first.Layers)
        {
            TensorAssert.AreClose(back.Layers[path].Delta(), layer.Delta(), 1e-5, 1e-4, $"{path}: a + b - b");
            TensorAssert.AreEqual(twice.Layers[path].Delta(), layer.Delta() * 2, path);
            TensorAssert.AreEqual(negated.Layers[path].Delta(), -layer.Delta(), path);
            Assert.That(none.Layers[path].Delta().abs().max().item<float>(), Is.Zero);
        }
        Assert.That(twice.Config, Is.EqualTo(first.Config));
    }

    [Test]
    public void Scale_BiasOfB_IsScaledToo()
    {
        using var scope = NewDisposeScope();
        PeftAdapter adapter = Keep(PeftFixtures.Lora(1, PeftFixtures.Config(2, 2) with { LoraBias = true }));
        PeftAdapter scaled = Keep(PeftMath.Scale(adapter, -3));
        TensorAssert.AreEqual(scaled.Layers[Q0].Bias!, adapter.Layers[Q0].Bias! * -3);
    }

    [Test]
    public void AverageSharedA_IsTheAverageAtTheSameRank()
    {
        using var scope = NewDisposeScope();
        PeftAdapter first = Lora(1, 3, 6);
        PeftAdapter second = Keep(new PeftAdapter(first.Config with { Alpha = 12 }, first.Tensors.Select(t =>
            KeyValuePair.Create(t.Key, t.Key.Contains("lora_B", StringComparison.Ordinal) ? randn_like(t.Value) : t.Value.clone()))));
        PeftAdapter average = Keep(PeftMath.AverageSharedA([first, second])), weighted = Keep(PeftMath.AverageSharedA([first, second], [2, -1]));
        foreach ((string path, PeftLayer layer) in average.Layers)
        {
            Assert.That(layer.Rank, Is.EqualTo(3));
            TensorAssert.AreClose(layer.Delta(), DenseSum([first, second], [0.5, 0.5], path), 1e-5, 1e-5, path);
            TensorAssert.AreClose(weighted.Layers[path].Delta(), DenseSum([first, second], [2, -1], path), 1e-5, 1e-5, path);
        }
        Assert.That(() => PeftMath.AverageSharedA([first, Lora(9, 3, 6)]), Throws.ArgumentException.With.Message.Contains(Q0));
    }

    [Test]
    public void Results_KeepTheTypeAndLeaveTheArgumentsAlone()
    {
        using var scope = NewDisposeScope();
        PeftAdapter adapter = Keep(PeftFixtures.Lora(1, PeftFixtures.Config(2, 2), type: ScalarType.BFloat16));
        Tensor before = adapter.Layers[Q0].B.clone();
        PeftAdapter[] results = [PeftMath.Concatenate([adapter, adapter]), PeftMath.Linear([adapter]), PeftMath.Compress(adapter, 1), PeftMath.Scale(adapter, 2), PeftMath.AverageSharedA([adapter, adapter])];
        foreach (PeftAdapter result in results)
        {
            Keep(result);
            Assert.That(result.Tensors.Values.Select(t => t.dtype), Is.All.EqualTo(ScalarType.BFloat16));
        }
        TensorAssert.AreEqual(adapter.Layers[Q0].B, before);
    }

    [Test]
    public void Results_LeaveNoTensorsBehind()
    {
        PeftAdapter first = Lora(1, 2, 6), second = Lora(2, 2, 5);
        long before = Tensor.TotalCount;
        foreach (Func<PeftAdapter> make in new Func<PeftAdapter>[]
        {
            () => PeftMath.Concatenate([first, second]), () => PeftMath.Linear([first, second]), () => PeftMath.Compress(first, 1), () => PeftMath.Scale(first, 2),
            () => LoraUnits.Merge([first, second], 3),
        })
        {
            PeftAdapter result = make();
            Assert.That(Tensor.TotalCount, Is.EqualTo(before + result.Tensors.Count));
            result.Dispose();
        }
    }

    [Test]
    public void BadArguments_AreNamed()
    {
        using var scope = NewDisposeScope();
        PeftAdapter adapter = Lora(1, 2, 6), wider = Lora(2, 3, 6);
        Assert.That(() => PeftMath.Concatenate([]), Throws.ArgumentException.With.Message.Contains("no adapter"));
        Assert.That(() => PeftMath.Concatenate([adapter], [1, 2]), Throws.ArgumentException.With.Message.Contains("2 weights for 1"));
        Assert.That(() => PeftMath.Concatenate([adapter], [double.NaN]), Throws.ArgumentException.With.Message.Contains("NaN"));
        Assert.That(() => PeftMath.Concatenate([null!]), Throws.ArgumentNullException);
        Assert.That(() => PeftMath.Linear([adapter, wider]), Throws.ArgumentException.With.Message.Contains("rank 2").And.Message.Contains("3 in another"));
        Assert.That(() => PeftMath.Linear([adapter], null, (LinearMerge)7), Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => PeftMath.Compress(adapter, 0), Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => PeftMath.Scale(adapter, double.PositiveInfinity), Throws.InstanceOf<ArgumentOutOfRangeException>());
        using var other = new PeftAdapter(adapter.Config, [new($"base_model.model.{Q0}.lora_A.weight", ones(2, 5)), new($"base_model.model.{Q0}.lora_B.weight", ones(8, 2))]);
        Assert.That(() => PeftMath.Add(adapter, other), Throws.ArgumentException.With.Message.Contains(Q0).And.Message.Contains("5 to 8"));
    }

    [Test]
    public void WhatIsNotLinear_IsRefused()
    {
        using var scope = NewDisposeScope();
        PeftAdapter dora = Keep(PeftFixtures.Lora(1, PeftFixtures.Config(2, 2) with { UseDora = true }));
        PeftAdapter biased = Keep(PeftFixtures.Lora(1, PeftFixtures.Config(2, 2) with { LoraBias = true }));
        PeftAdapter plain = Lora(1, 2, 2);
        using var saved = new PeftAdapter(plain.Config, plain.Tensors.Select(t => KeyValuePair.Create(t.Key, t.Value.clone())).Append(new("base_model.model.lm_head.weight", ones(2, 2))));
        Assert.That(() => PeftMath.Negate(dora), Throws.InstanceOf<NotSupportedException>().With.Message.Contains("use_dora"));
        Assert.That(() => PeftMath.Add(biased, biased), Throws.InstanceOf<NotSupportedException>().With.Message.Contains("lora_bias"));
        Assert.That(() => PeftMath.Compress(saved, 1), Throws.InstanceOf<NotSupportedException>().With.Message.Contains("lm_head"));
    }

    private static Tensor DenseSum(IReadOnlyList<PeftAdapter> adapters, double[] weights, string path) =>
        adapters.Select((adapter, i) => (adapter, i)).Where(item => item.adapter.Layers.ContainsKey(path))
            .Select(item => item.adapter.Layers[path].Delta().to(ScalarType.Float64) * weights[item.i]).Aggregate((sum, next) => sum + next);
}
