namespace MoEKernels.Tests;

/// <summary>One wrong argument each: the error names it, what was got and what was expected.</summary>
public sealed class RankLoraArgumentTests
{
    private static readonly RankLoraShape Shape = new(2, 3, 4, 6, 2);
    private static readonly RankLoraOptions Smora = RankLoraOptions.Smora(4, 2);

    private static IEnumerable<TestCaseData> ShapesAndOptions()
    {
        yield return Case("T", Shape with { T = -1 }, Smora, "shape", "T: got -1");
        yield return Case("DIn", Shape with { DIn = 0 }, Smora, "shape", "DIn: got 0");
        yield return Case("DOut", Shape with { DOut = 0 }, Smora, "shape", "DOut: got 0");
        yield return Case("R", Shape with { R = 4097 }, Smora, "shape", "R: got 4097, expected 1 to 4096");
        yield return Case("K", Shape with { K = 7 }, Smora, "shape", "K: got 7, expected 1 to 6");
        yield return Case("Flags", Shape, Smora with { Flags = (CallFlags)128 }, "options", "Flags: got 128");
        yield return Case("BLayout", Shape, Smora with { BLayout = (BLayout)2 }, "options", "BLayout: got 2");
        yield return Case("Gate", Shape, Smora with { Gate = (RankGate)5 }, "options", "Gate: got 5");
        yield return Case("Score", Shape, Smora with { Score = (GateScore)3 }, "options", "Score: got 3");
        yield return Case("BiasMode", Shape, Smora with { BiasMode = (BiasMode)3 }, "options", "BiasMode: got 3");
        yield return Case("Normalize", Shape, Smora with { Normalize = (GateNormalize)3 }, "options",
            "Normalize: got 3");
        yield return Case("RankPartition", Shape, Smora with { RankPartition = 4 }, "options",
            "RankPartition: got 4, expected a divisor of R");
        yield return Case("RankPartition negative", Shape, Smora with { RankPartition = -2 }, "options",
            "RankPartition: got -2");
        yield return Case("RankPartition without router", Shape,
            Smora with { Gate = RankGate.Caller, RankPartition = 2 }, "options", "RankPartition: got 2");
        yield return Case("Eps", Shape, Smora with { Eps = -1 }, "options", "Eps: got -1");
        yield return Case("Temperature", Shape, Smora with { Temperature = -1 }, "options", "Temperature: got -1");
        yield return Case("Threshold", Shape, Smora with { Threshold = double.NaN }, "options", "Threshold: got NaN");
        yield return Case("DropoutP", Shape, Smora with { DropoutP = 1 }, "options", "DropoutP: got 1");
    }

    [TestCaseSource(nameof(ShapesAndOptions))]
    public void WrongShapeOrOption_IsNamed(RankLoraShape shape, RankLoraOptions options, string argument,
        string text) => Assert.Multiple(() =>
    {
        Expect(() => Forward(shape, options), argument, text);
        Expect(() => Backward(shape, options), argument, text);
    });

    [Test]
    public void Forward_WrongLength_IsNamed() => Assert.Multiple(() =>
    {
        Expect(() => Forward(x: 5), "x", "x: got 5 elements, expected 6");
        Expect(() => Forward(a: 5), "a", "a: got 5 elements, expected 18");
        Expect(() => Forward(b: 5), "b", "b: got 5 elements, expected 24");
        Expect(() => Forward(wr: 5), "wr", "wr: got 5 elements, expected 18");
        Expect(() => Forward(bias: 5), "bias", "bias: got 5 elements, expected 6");
        Expect(() => Forward(routerInput: 5), "routerInput", "routerInput: got 5 elements, expected 6");
        Expect(() => Forward(y: 5), "y", "y: got 5 elements, expected 8");
        Expect(() => Forward(ids: 5), "ids", "ids: got 5 elements, expected 4");
        Expect(() => Forward(gates: 5), "gates", "gates: got 5 elements, expected 4");
        Expect(() => Forward(u: 5), "u", "u: got 5 elements, expected 4");
        Expect(() => Forward(gateLogits: 5), "gateLogits", "gateLogits: got 5 elements, expected 12");
        Expect(() => Forward(counts: 5), "counts", "counts: got 5 elements, expected 6");
        RankLoraOptions caller = new() { Scale = 1, Gate = RankGate.Caller };
        Expect(() => Forward(options: caller, bias: 0), "wr",
            "wr: got 18 elements, expected none without RankGate.Router");
        Expect(() => Forward(options: caller, wr: 0, bias: 6), "bias",
            "bias: got 6 elements, expected none with BiasMode.None");
        Expect(() => Forward(options: caller, wr: 0, bias: 0, routerInput: 6), "routerInput",
            "routerInput: got 6 elements, expected none");
        Expect(() => Forward(options: caller, wr: 0, bias: 0, gateLogits: 12), "gateLogits",
            "gateLogits: got 12 elements, expected none");
    });

    [Test]
    public void Backward_WrongLength_IsNamed() => Assert.Multiple(() =>
    {
        Expect(() => Backward(dy: 5), "dy", "dy: got 5 elements, expected 8");
        Expect(() => Backward(u: 5), "u", "u: got 5 elements, expected 4");
        Expect(() => Backward(gateLogits: 0), "gateLogits", "gateLogits: got 0 elements, expected 12");
        Expect(() => Backward(dx: 5), "dx", "dx: got 5 elements, expected 6");
        Expect(() => Backward(dA: 5), "dA", "dA: got 5 elements, expected 18");
        Expect(() => Backward(dB: 5), "dB", "dB: got 5 elements, expected 24");
        Expect(() => Backward(dWr: 5), "dWr", "dWr: got 5 elements, expected 18");
        Expect(() => Backward(dRouterInput: 6), "dRouterInput",
            "dRouterInput: got 6 elements, expected none without routerInput");
        Expect(() => Backward(dGates: 5), "dGates", "dGates: got 5 elements, expected 4");
    });

    [Test]
    public void WeightType_ThatDoesNotGoWithTheActivations_IsNamed() => Assert.Multiple(() =>
    {
        Assert.That(() => RankLora.Forward(Shape, Smora, new float[6], new Half[18], new Half[24], new float[8],
            new int[4], new float[4]),
            Throws.ArgumentException.With.Message.Contains("a: got elements of type System.Half"));
        Assert.That(() => RankLora.Forward(Shape, Smora, new double[6], new float[18], new float[24], new double[8],
            new int[4], new double[4]),
            Throws.ArgumentException.With.Message.Contains("a: got elements of type System.Single"));
        Assert.That(() => RankLora.Forward(Shape, Smora, new Half[6], new Half[18], new Half[24], new Half[8],
            new int[4], new double[4]),
            Throws.ArgumentException.With.Message.Contains(
            "gates: got elements of type System.Double, expected float"));
    });

    [Test]
    public void RawForm_WrongArguments_AreNamed() => Assert.Multiple(() =>
    {
        RankLoraArgs args = new() { Shape = Shape, Options = Smora };
        Assert.That(() => RankLora.Forward(null!, args, 0, 0, 0),
            Throws.ArgumentNullException.With.Message.Contains("context"));
        Assert.That(() => RankLora.ForwardWorkspace(null!, args),
            Throws.ArgumentNullException.With.Message.Contains("context"));
        Assert.That(() => RankLora.Backward(null!, args, 0, 0, 0),
            Throws.ArgumentNullException.With.Message.Contains("context"));
        Assert.That(() => RankLora.BackwardWorkspace(null!, args),
            Throws.ArgumentNullException.With.Message.Contains("context"));
        Assert.That(() => RankLora.Forward(MoeContext.Default, args, 0, -1, 0),
            Throws.InstanceOf<ArgumentException>().With.Message.Contains("workspaceBytes"));
        Assert.That(() => RankLora.Forward(MoeContext.Default, args, 0, 0, 0),
            Throws.ArgumentException.With.Message.Contains("x: got null"));
        Assert.That(() => RankLora.Forward(MoeContext.Default, args with { XStride = 2 }, 0, 0, 0),
            Throws.ArgumentException.With.Message.Contains("x_stride: got 2"));
    });

    private static void Forward(RankLoraShape? shape = null, RankLoraOptions? options = null, int x = 6, int a = 18,
        int b = 24, int y = 8, int ids = 4,
        int gates = 4, int wr = 18, int bias = 6, int routerInput = 0, int u = 0, int gateLogits = 0, int counts = 0) =>
        RankLora.Forward(shape ?? Shape, options ?? Smora, new float[x], new float[a], new float[b], new float[y],
        new int[ids], new float[gates], new float[wr],
            new float[bias], new float[routerInput], new float[u], new float[gateLogits], new int[counts]);

    private static void Backward(RankLoraShape? shape = null, RankLoraOptions? options = null, int dy = 8, int u = 4,
        int gateLogits = 12, int dx = 0,
        int dA = 0, int dB = 0, int dWr = 0, int dRouterInput = 0, int dGates = 0) =>
        RankLora.Backward(shape ?? Shape, options ?? Smora, new float[dy], new float[6], new float[18], new float[24],
        new int[4], new float[4], new float[u],
            new float[18], new float[6], default, new float[gateLogits], new float[dx], new float[dA], new float[dB],
            new float[dWr], new float[dRouterInput], new float[dGates]);

    private static TestCaseData Case(string name, RankLoraShape shape, RankLoraOptions options, string argument,
        string text) =>
        new TestCaseData(shape, options, argument, text).SetArgDisplayNames(name);

    private static void Expect(Action call, string argument, string text)
    {
        ArgumentException? error = Assert.Catch<ArgumentException>(call);
        Assert.That(error?.ParamName, Is.EqualTo(argument), text);
        Assert.That(error?.Message, Does.Contain(text));
    }
}
