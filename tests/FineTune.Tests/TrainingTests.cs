using static TorchSharp.torch;

namespace FineTune.Tests;

public sealed class TrainingTests
{
    [Test]
    public void Next_SameSeed_DrawsTheSameBatches()
    {
        using var scope = NewDisposeScope();
        Domain[] domains = [Counting("one"), Counting("two")];
        BatchSampler one = new(domains, batch: 4, context: 8, sizeExponent: 0.5, seed: 3);
        BatchSampler other = new(domains, batch: 4, context: 8, sizeExponent: 0.5, seed: 3);

        for (int i = 0; i < 5; i++)
            Assert.That(one.Next().Inputs.data<long>().ToArray(), Is.EqualTo(other.Next().Inputs.data<long>().ToArray()));
    }

    [Test]
    public void Next_Targets_AreTheBytesAfterTheInputs()
    {
        using var scope = NewDisposeScope();
        BatchSampler sampler = new([Counting("one")], batch: 4, context: 8, sizeExponent: 1, seed: 3);

        (Tensor inputs, Tensor targets) = sampler.Next();

        Assert.That(inputs.shape, Is.EqualTo(new long[] { 4, 8 }));
        Assert.That(targets.data<long>().ToArray(), Is.EqualTo(inputs.data<long>().Select(value => (value + 1) % 256).ToArray()));
    }

    [Test]
    public void At_WholeSchedule_RisesToThePeakAndFallsToATenth()
    {
        LearningRate rate = new(Peak: 1, Steps: 100);
        double[] rates = [.. Enumerable.Range(0, 100).Select(rate.At)];

        Assert.Multiple(() =>
        {
            Assert.That(rates.Max(), Is.EqualTo(1).Within(1e-9));
            Assert.That(Array.IndexOf(rates, rates.Max()), Is.EqualTo(5));
            Assert.That(rates[0], Is.EqualTo(1.0 / 6).Within(1e-9));
            Assert.That(rates[^1], Is.EqualTo(0.1).Within(0.01));
        });
    }

    [Test]
    public void Of_EvenAndOddCounts_GivesLeastAndMedian()
    {
        Durations odd = Durations.Of(new[] { 5, 1, 3 }.Select(ms => TimeSpan.FromMilliseconds(ms)));
        Durations even = Durations.Of(new[] { 4, 1, 3, 2 }.Select(ms => TimeSpan.FromMilliseconds(ms)));

        Assert.That((odd.MinMilliseconds, odd.MedianMilliseconds), Is.EqualTo((1.0, 3.0)));
        Assert.That((even.MinMilliseconds, even.MedianMilliseconds), Is.EqualTo((1.0, 2.5)));
    }

    [Test]
    public void BitsPerByte_ModelThatKnowsNothing_IsEight()
    {
        using var scope = NewDisposeScope();
        using ZeroModel model = new();

        var bits = new Evaluation([Counting("one")], context: 16).BitsPerByte(model, CancellationToken.None);

        Assert.That(bits["one"], Is.EqualTo(8).Within(1e-5));
    }

    [Test]
    public void ForEqualBudget_EveryAdapter_HasAboutTheSameSize()
    {
        Options options = new() { Width = 64, Layers = 2, Context = 16, Adapters = Enum.GetValues<AdapterKind>() };
        using ByteTransformer model = new(options.Width, options.Layers, options.Context);

        Dictionary<AdapterKind, long> sizes = [];
        foreach (AdapterPlan plan in AdapterPlan.ForEqualBudget(options, model))
        {
            using var adapter = MoEKernels.TorchSharp.AdapterExtensions.AddAdapter(model, plan.Config);
            sizes.Add(plan.Kind, adapter.Report.AdapterParameters);
        }

        Assert.That(sizes, Has.Count.EqualTo(10));

        // The two matrices of a LoKr are as large as they can be.
        Assert.That(sizes.Remove(AdapterKind.LoKr, out long lokr), Is.True);
        Assert.That(lokr, Is.InRange(sizes.Values.Min() / 4, sizes.Values.Max()));
        Assert.That(sizes.Values.Max() / (double)sizes.Values.Min(), Is.LessThan(1.05), string.Join(", ", sizes));
    }

    private static Domain Counting(string name)
    {
        byte[] text = [.. Enumerable.Range(0, 1000).Select(i => (byte)i)];
        return new Domain(name, text, text, ["file"], []);
    }

    private sealed class ZeroModel() : nn.Module<Tensor, Tensor>(nameof(ZeroModel))
    {
        public override Tensor forward(Tensor input) => zeros(input.size(0), input.size(1), ByteTransformer.Symbols);
    }
}
