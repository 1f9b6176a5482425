namespace MoEKernels.Tests;

/// <summary>One wrong argument each: the error names it, what was got and what was expected.</summary>
public sealed class GateArgumentTests
{
    private static readonly GateShape Shape = new(2, 3, 2);

    private static IEnumerable<TestCaseData> Forward()
    {
        yield return Case("T", shape: Shape with { T = -1 }, names: ["shape", "T", "-1"]);
        yield return Case("E", shape: Shape with { E = 0 }, names: ["shape", "E", "0"]);
        yield return Case("E too large", shape: Shape with { E = Gate.MaxExperts + 1 },
            names: ["shape", "E", "4097", "4096"]);
        yield return Case("K", shape: Shape with { K = 4 }, names: ["shape", "K", "4", "1 to 3"]);
        yield return Case("K with All", new() { Select = GateSelect.All }, names: ["shape", "K", "2", "0 or E"]);
        yield return Case("Flags", new() { Flags = (CallFlags)64 }, names: ["options", "Flags", "64"]);
        yield return Case("Score", new() { Score = (GateScore)3 }, names: ["options", "Score", "3"]);
        yield return Case("Select", new() { Select = (GateSelect)(-1) }, names: ["options", "Select"]);
        yield return Case("BiasMode", new() { BiasMode = (BiasMode)9 }, names: ["options", "BiasMode", "9"]);
        yield return Case("Normalize", new() { Normalize = (GateNormalize)9 }, names: ["options", "Normalize", "9"]);
        yield return Case("Eps", new() { Eps = -1 }, names: ["options", "Eps", "-1"]);
        yield return Case("Temperature", new() { Temperature = double.NaN }, names: ["options", "Temperature", "NaN"]);
        yield return Case("WeightScale", new() { WeightScale = double.PositiveInfinity },
            names: ["options", "WeightScale"]);
        yield return Case("logits", logits: 5, names: ["logits", "5", "6"]);
        yield return Case("ids", ids: 3, names: ["ids", "3", "4"]);
        yield return Case("weights", weights: 6, names: ["weights", "6", "4"]);
        yield return Case("bias without a mode", bias: 3, names: ["bias", "3", "none"]);
        yield return Case("bias missing", new() { BiasMode = BiasMode.Weight }, names: ["bias", "0", "3"]);
        yield return Case("counts", counts: 2, names: ["counts", "2", "3"]);
        yield return Case("lse", lse: 1, names: ["lse", "1", "2"]);
    }

    private static IEnumerable<TestCaseData> Backward()
    {
        yield return new TestCaseData(5, 4, 4, 6, 0, new[] { "logits", "5", "6" });
        yield return new TestCaseData(6, 3, 4, 6, 0, new[] { "ids", "3", "4" });
        yield return new TestCaseData(6, 4, 5, 6, 0, new[] { "dWeights", "5", "4" });
        yield return new TestCaseData(6, 4, 4, 7, 0, new[] { "dLogits", "7", "6" });
        yield return new TestCaseData(6, 4, 4, 6, 1, new[] { "dLse", "1", "2" });
    }

    [TestCaseSource(nameof(Forward))]
    public void Forward_WrongArgument_IsNamed(
        GateShape shape, GateOptions options, int logits, int ids, int weights, int bias, int counts, int lse,
        string[] names)
    {
        int[] idBuffer = [7, 7, 7, 7, 7, 7];
        ArgumentException? error = Assert.Catch<ArgumentException>(() =>
            Gate.Forward(shape, options, new float[logits], idBuffer.AsSpan(0, ids),
            new float[weights], new float[bias], new int[counts], new float[lse]));

        Expect(error!, names);
        Assert.That(idBuffer, Is.All.EqualTo(7), "something was written");
    }

    [TestCaseSource(nameof(Backward))]
    public void Backward_WrongArgument_IsNamed(int logits, int ids, int dWeights, int dLogits, int dLse, string[] names)
    {
        ArgumentException? error = Assert.Catch<ArgumentException>(() =>
            Gate.Backward(Shape, default, new float[logits], new int[ids],
            new float[dWeights], new float[dLogits], dLse: new float[dLse]));

        Expect(error!, names);
    }

    [Test]
    public void ElementTypes_ThatTheAbiLacks_AreRefused() => Assert.Multiple(() =>
    {
        Assert.That(() => Gate.Forward(Shape, default, new decimal[6], new int[4], new float[4]),
            Throws.ArgumentException.With.Message.Contains("logits").And.Message.Contains("Decimal"));
        Assert.That(() => Gate.Forward(Shape, default, new float[6], new int[4], new double[4]),
            Throws.ArgumentException.With.Message.Contains("weights").And.Message.Contains("expected float"));
        Assert.That(() => Gate.Backward(Shape, default, new double[6], new int[4], new float[4], new double[6]),
            Throws.ArgumentException.With.Message.Contains("dWeights").And.Message.Contains("expected double"));
        Assert.That(() => Gate.UpdateBias([1], new Half[1], 1), Throws.ArgumentException.With.Message.Contains("bias"));
    });

    [Test]
    public void UpdateBias_WrongArgument_IsNamed() => Assert.Multiple(() =>
    {
        Assert.That(() => Gate.UpdateBias(default, Array.Empty<float>(), 1),
            Throws.InstanceOf<ArgumentException>().With.Message.Contains("counts"));
        Assert.That(() => Gate.UpdateBias([1, 2], new float[3], 1),
            Throws.ArgumentException.With.Message.Contains("bias: got 3"));
        Assert.That(() => Gate.UpdateBias([1], new float[1], double.NaN),
            Throws.InstanceOf<ArgumentException>().With.Message.Contains("rate"));
        Assert.That(() => Gate.UpdateBias([1], new float[1], 1, double.NaN),
            Throws.InstanceOf<ArgumentException>().With.Message.Contains("target"));
    });

    [Test]
    public void OverlappingBuffers_AreRefusedByTheLibrary()
    {
        float[] shared = new float[6];

        Assert.That(() => Gate.Forward(Shape, default, shared, new int[4], shared.AsSpan(0, 4)),
            Throws.ArgumentException.With.Message.Contains("weights").And.Message.Contains("overlap"));
    }

    [Test]
    public void RawForm_WrongArguments_AreNamed() => Assert.Multiple(() =>
    {
        GateArgs args = new() { Shape = Shape };
        Assert.That(() => Gate.Forward(null!, args, 0, 0, 0),
            Throws.ArgumentNullException.With.Message.Contains("context"));
        Assert.That(() => Gate.ForwardWorkspace(null!, args),
            Throws.ArgumentNullException.With.Message.Contains("context"));
        Assert.That(() => Gate.Backward(null!, args, 0, 0, 0),
            Throws.ArgumentNullException.With.Message.Contains("context"));
        Assert.That(() => Gate.BackwardWorkspace(null!, args),
            Throws.ArgumentNullException.With.Message.Contains("context"));
        Assert.That(() => Gate.UpdateBias(null!, default, 0),
            Throws.ArgumentNullException.With.Message.Contains("context"));
        Assert.That(() => Gate.Forward(MoeContext.Default, args, 0, -1, 0),
            Throws.InstanceOf<ArgumentException>().With.Message.Contains("workspaceBytes"));
        Assert.That(() => Gate.Forward(MoeContext.Default, args, 0, 0, 0),
            Throws.ArgumentException.With.Message.Contains("logits: got null"));
        Assert.That(() => Gate.Forward(MoeContext.Default, args with { LogitsStride = 1 }, 0, 0, 0),
            Throws.ArgumentException.With.Message.Contains("logits_stride: got 1"));
        Assert.That(() => Gate.UpdateBias(MoeContext.Default, new GateBiasUpdateArgs { E = 1, BiasDType = DType.F16 },
            0),
            Throws.ArgumentException.With.Message.Contains("bias_dtype"));
    });

    private static TestCaseData Case(string name, GateOptions options = default, GateShape? shape = null,
        int logits = 6, int ids = 4,
        int weights = 4, int bias = 0, int counts = 0, int lse = 0, string[]? names = null) =>
        new TestCaseData(shape ?? Shape, options, logits, ids, weights, bias, counts, lse, names).SetArgDisplayNames(
        name);

    private static void Expect(ArgumentException error, string[] names) => Assert.Multiple(() =>
    {
        Assert.That(error.ParamName, Is.EqualTo(names[0]));
        foreach (string name in names)
            Assert.That(error.Message, Does.Contain(name));
    });
}
