using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

public sealed class LoraUnitsTests
{
    private static PeftAdapter Lora(ulong seed, long rank, double alpha) => PeftFixtures.Lora(seed, PeftFixtures.Config(rank, alpha), type: ScalarType.Float64);

    [Test]
    public void SplitAndJoin_InAnyOrder_KeepTheUpdate()
    {
        using var scope = NewDisposeScope();
        using PeftAdapter adapter = Lora(1, 5, 10);
        foreach ((string path, PeftLayer layer) in adapter.Layers)
        {
            Tensor units = LoraUnits.Split(layer);
            Assert.That(units.shape, Is.EqualTo(new[] { 5L, layer.InFeatures + layer.OutFeatures }));
            TensorAssert.AreEqual(units[1].narrow(0, 0, 8), layer.A[1]);
            TensorAssert.AreEqual(units[1].narrow(0, 8, layer.OutFeatures), layer.B[.., 1] * 2);
            Tensor shuffled = units.index_select(0, tensor(new long[] { 3, 0, 4, 2, 1 }));
            (Tensor a, Tensor b) = LoraUnits.Join(shuffled, layer.InFeatures);
            TensorAssert.AreClose(b.matmul(a), layer.Delta(), 1e-12, 1e-12, path);
        }
    }

    [Test]
    public void UnitsOfSeveral_TogetherAreTheSum()
    {
        using var scope = NewDisposeScope();
        using PeftAdapter first = Lora(1, 2, 6), second = Lora(2, 4, 2);
        foreach (string path in first.Layers.Keys)
        {
            PeftLayer one = first.Layers[path], two = second.Layers[path];
            (Tensor a, Tensor b) = LoraUnits.Join(cat([LoraUnits.Split(one), LoraUnits.Split(two)], 0), one.InFeatures);
            TensorAssert.AreClose(b.matmul(a), one.Delta() + two.Delta(), 1e-12, 1e-12, path);
        }
    }

    [TestCase(6)]
    [TestCase(60)]
    public void Merge_AsManyClustersAsUnits_IsTheSum(int clusters)
    {
        using var scope = NewDisposeScope();
        using PeftAdapter first = Lora(1, 2, 6), second = Lora(2, 4, 2);
        using PeftAdapter merged = LoraUnits.Merge([first, second], clusters);
        foreach ((string path, PeftLayer layer) in merged.Layers)
        {
            Assert.That(layer.Rank, Is.EqualTo(6));
            TensorAssert.AreClose(layer.Delta(), first.Layers[path].Delta() + second.Layers[path].Delta(), 1e-12, 1e-12, path);
        }
    }

    [Test]
    public void Merge_CopiesOfOne_IsTheOneAndNotItsMultiple([Range(0, 9)] int seed)
    {
        using var scope = NewDisposeScope();
        using PeftAdapter adapter = Lora(1, 4, 6);
        using PeftAdapter merged = LoraUnits.Merge([adapter, adapter, adapter], 4, new LegoOptions { Seed = seed, ParameterReweighting = LegoParameterReweighting.MeanNorm });
        foreach ((string path, PeftLayer layer) in merged.Layers)
            TensorAssert.AreClose(layer.Delta(), adapter.Layers[path].Delta(), 1e-12, 1e-12, path);
    }

    [Test]
    public void Merge_Reweighting_FollowsItsFormula()
    {
        using var scope = NewDisposeScope();
        using PeftAdapter first = Lora(1, 3, 6), second = Lora(2, 5, 2);
        using PeftAdapter plain = LoraUnits.Merge([first, second], 2);
        using PeftAdapter output = LoraUnits.Merge([first, second], 2, new LegoOptions { OutputReweighting = LegoOutputReweighting.RootOfRankRatio });
        using PeftAdapter norm = LoraUnits.Merge([first, second], 2, new LegoOptions { ParameterReweighting = LegoParameterReweighting.MeanNorm });
        foreach ((string path, PeftLayer layer) in plain.Layers)
        {
            TensorAssert.AreClose(output.Layers[path].Delta(), layer.Delta() * Math.Sqrt(4.0 / 2), 1e-12, 1e-12, path);
            Tensor units = cat([LoraUnits.Split(first.Layers[path]), LoraUnits.Split(second.Layers[path])], 0);
            KMeans clusters = KMeans.Run(units, 2, 0, 100);
            double[] unitNorms = [.. units.norm(1).data<double>()];
            Tensor got = LoraUnits.Split(norm.Layers[path]);
            for (int cluster = 0; cluster < 2; cluster++)
            {
                double expected = unitNorms.Where((_, i) => clusters.Assignment[i] == cluster).Average();
                Assert.That(got[cluster].norm().item<double>(), Is.EqualTo(expected).Within(1e-12 * expected), path);
                Assert.That(nn.functional.cosine_similarity(got[cluster], clusters.Centroids[cluster], 0, 1e-12).item<double>(), Is.EqualTo(1).Within(1e-12), path);
            }
        }
    }

    [Test]
    public void Merge_SameSeed_GivesTheSameBits()
    {
        using var scope = NewDisposeScope();
        using PeftAdapter first = Lora(1, 6, 6), second = Lora(2, 6, 2);
        using PeftAdapter one = LoraUnits.Merge([first, second], 3, new LegoOptions { Seed = 5 });
        using PeftAdapter two = LoraUnits.Merge([first, second], 3, new LegoOptions { Seed = 5 });
        foreach ((string name, Tensor tensor) in one.Tensors)
            TensorAssert.AreEqual(two.Tensors[name], tensor, name);
    }

    [Test]
    public void KMeans_ObjectiveNeverRises([Range(0, 19)] int seed)
    {
        using var scope = NewDisposeScope();
        using var generator = new Generator((ulong)seed + 100, CPU);
        Tensor points = randn(40, 6, dtype: ScalarType.Float64, generator: generator);
        KMeans clusters = KMeans.Run(points, 7, seed, 100);
        Assert.That(clusters.Objectives, Is.Ordered.Descending);
        Assert.That(clusters.Assignment.Distinct().Count(), Is.EqualTo(7), "no cluster is empty");
        for (int cluster = 0; cluster < 7; cluster++)
        {
            long[] members = [.. Enumerable.Range(0, 40).Where(i => clusters.Assignment[i] == cluster).Select(i => (long)i)];
            TensorAssert.AreClose(clusters.Centroids[cluster], points.index_select(0, tensor(members)).mean([0L]), 1e-12, 1e-12, "a centroid is its members' mean");
        }
    }

    [Test]
    public void KMeans_SeparatedGroups_AreFound([Range(0, 9)] int seed)
    {
        using var scope = NewDisposeScope();
        Tensor centers = tensor(new double[,] { { 0, 0 }, { 100, 0 }, { 0, 100 } });
        using var generator = new Generator(7, CPU);
        Tensor points = cat([centers, centers, centers], 0) + randn(9, 2, dtype: ScalarType.Float64, generator: generator);
        int[] assignment = KMeans.Run(points, 3, seed, 100).Assignment;
        for (int i = 0; i < 9; i++)
            Assert.That(assignment[i], Is.EqualTo(assignment[i % 3]));
        Assert.That(assignment.Distinct().Count(), Is.EqualTo(3));
    }

    [Test]
    public void KMeans_FewerDifferentPointsThanClusters_FillsEveryCluster()
    {
        using var scope = NewDisposeScope();
        KMeans clusters = KMeans.Run(ones(6, 3, dtype: ScalarType.Float64), 4, 0, 100);
        Assert.That(clusters.Assignment.Distinct().Count(), Is.EqualTo(4));
        TensorAssert.AreEqual(clusters.Centroids, ones(4, 3, dtype: ScalarType.Float64));
    }

    [Test]
    public void BadArguments_AreNamed()
    {
        using var scope = NewDisposeScope();
        using PeftAdapter adapter = Lora(1, 2, 6);
        Assert.That(() => LoraUnits.Merge([], 1), Throws.ArgumentException);
        Assert.That(() => LoraUnits.Merge([adapter], 0), Throws.InstanceOf<ArgumentOutOfRangeException>().With.Message.Contains("rank"));
        Assert.That(() => LoraUnits.Merge([adapter], 1, new LegoOptions { MaxIterations = 0 }), Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => LoraUnits.Merge([adapter], 1, new LegoOptions { OutputReweighting = (LegoOutputReweighting)9 }), Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => LoraUnits.Join(ones(3), 1), Throws.ArgumentException.With.Message.Contains("[3]"));
        Assert.That(() => LoraUnits.Join(ones(3, 4), 4), Throws.InstanceOf<ArgumentOutOfRangeException>());
    }
}
