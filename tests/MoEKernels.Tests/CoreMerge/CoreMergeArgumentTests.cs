namespace MoEKernels.Tests;

/// <summary>One wrong argument each: the error names it, what was got and what was expected.</summary>
public sealed class CoreMergeArgumentTests
{
    private static readonly CoreMergeShape Shape = new(2, 3, 4, 6, 5);
    private static readonly CoreMergeOptions Plain = new() { Scale = 1 };

    private static IEnumerable<TestCaseData> ShapesAndOptions()
    {
        yield return Case("T", Shape with { T = -1 }, Plain, "shape", "T: got -1");
        yield return Case("DIn", Shape with { DIn = 0 }, Plain, "shape", "DIn: got 0");
        yield return Case("DOut", Shape with { DOut = 0 }, Plain, "shape", "DOut: got 0");
        yield return Case("R", Shape with { R = 0 }, Plain, "shape", "R: got 0");
        yield return Case("E", Shape with { E = 4097 }, Plain, "shape", "E: got 4097, expected 1 to 4096");
        yield return Case("Flags", Shape, Plain with { Flags = (CallFlags)128 }, "options", "Flags: got 128");
        yield return Case("BLayout", Shape, Plain with { BLayout = (BLayout)2 }, "options", "BLayout: got 2");
        yield return Case("Router", Shape, Plain with { Router = (CoreRouter)3 }, "options", "Router: got 3");
        yield return Case("Temperature", Shape, Plain with { Temperature = -1 }, "options", "Temperature: got -1");
        yield return Case("DropoutP", Shape, Plain with { DropoutP = 1 }, "options", "DropoutP: got 1");
        yield return Case("DropoutCoreP", Shape, Plain with { DropoutCoreP = -0.5 }, "options",
            "DropoutCoreP: got -0.5");
    }

    [TestCaseSource(nameof(ShapesAndOptions))]
    public void WrongShapeOrOption_IsNamed(CoreMergeShape shape, CoreMergeOptions options, string argument,
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
        Expect(() => Forward(c: 5), "c", "c: got 5 elements, expected 180");
        Expect(() => Forward(wg: 5), "wg", "wg: got 5 elements, expected 30");
        Expect(() => Forward(options: Plain with { Router = CoreRouter.Input }), "wg",
            "wg: got 30 elements, expected 15");
        Expect(() => Forward(options: Plain with { Router = CoreRouter.Caller }), "wg",
            "wg: got 30 elements, expected none with CoreRouter.Caller");
        Expect(() => Forward(options: Plain with { Router = CoreRouter.Caller }, wg: 0, p: 0), "p",
            "p: got 0 elements, expected 10");
        Expect(() => Forward(routerInput: 6), "routerInput", "routerInput: got 6 elements, expected none");
        Expect(() => Forward(options: Plain with { Router = CoreRouter.Input }, wg: 15, routerInput: 5), "routerInput",
            "routerInput: got 5 elements, expected 6");
        Expect(() => Forward(y: 5), "y", "y: got 5 elements, expected 8");
        Expect(() => Forward(u: 5), "u", "u: got 5 elements, expected 12");
        Expect(() => Forward(p: 5), "p", "p: got 5 elements, expected 10");
        Expect(() => Forward(v: 5), "v", "v: got 5 elements, expected 12");
    });

    [Test]
    public void Backward_WrongLength_IsNamed() => Assert.Multiple(() =>
    {
        Expect(() => Backward(dy: 5), "dy", "dy: got 5 elements, expected 8");
        Expect(() => Backward(u: 0), "u", "u: got 0 elements, expected 12");
        Expect(() => Backward(p: 0), "p", "p: got 0 elements, expected 10");
        Expect(() => Backward(v: 0), "v", "v: got 0 elements, expected 12");
        Expect(() => Backward(dx: 5), "dx", "dx: got 5 elements, expected 6");
        Expect(() => Backward(dA: 5), "dA", "dA: got 5 elements, expected 18");
        Expect(() => Backward(dB: 5), "dB", "dB: got 5 elements, expected 24");
        Expect(() => Backward(dC: 5), "dC", "dC: got 5 elements, expected 180");
        Expect(() => Backward(dWg: 5), "dWg", "dWg: got 5 elements, expected 30");
        Expect(() => Backward(dRouterInput: 6), "dRouterInput",
            "dRouterInput: got 6 elements, expected none without routerInput");
        Expect(() => Backward(dp: 5), "dp", "dp: got 5 elements, expected 10");
    });

    [Test]
    public void RawForm_WrongArguments_AreNamed() => Assert.Multiple(() =>
    {
        CoreMergeArgs args = new() { Shape = Shape, Options = Plain };
        Assert.That(() => CoreMerge.Forward(null!, args, 0, 0, 0),
            Throws.ArgumentNullException.With.Message.Contains("context"));
        Assert.That(() => CoreMerge.ForwardWorkspace(null!, args),
            Throws.ArgumentNullException.With.Message.Contains("context"));
        Assert.That(() => CoreMerge.Backward(null!, args, 0, 0, 0),
            Throws.ArgumentNullException.With.Message.Contains("context"));
        Assert.That(() => CoreMerge.BackwardWorkspace(null!, args),
            Throws.ArgumentNullException.With.Message.Contains("context"));
        Assert.That(() => CoreMerge.Forward(MoeContext.Default, args, 0, -1, 0),
            Throws.InstanceOf<ArgumentException>().With.Message.Contains("workspaceBytes"));
        Assert.That(() => CoreMerge.Forward(MoeContext.Default, args, 0, 0, 0),
            Throws.ArgumentException.With.Message.Contains("x: got null"));
        Assert.That(() => CoreMerge.Forward(MoeContext.Default, args with { WgStride = 2 }, 0, 0, 0),
            Throws.ArgumentException.With.Message.Contains("W_g_stride: got 2"));
    });

    private static void Forward(CoreMergeShape? shape = null, CoreMergeOptions? options = null, int x = 6, int a = 18,
        int b = 24, int c = 180, int y = 8,
        int u = 12, int p = 10, int v = 12, int wg = 30, int routerInput = 0) =>
        CoreMerge.Forward(shape ?? Shape, options ?? Plain, new float[x], new float[a], new float[b], new float[c],
        new float[y], new float[u], new float[p],
            new float[v], new float[wg], new float[routerInput]);

    private static void Backward(CoreMergeShape? shape = null, CoreMergeOptions? options = null, int dy = 8,
        int u = 12, int p = 10, int v = 12, int dx = 0,
        int dA = 0, int dB = 0, int dC = 0, int dWg = 0, int dRouterInput = 0, int dp = 0) =>
        CoreMerge.Backward(shape ?? Shape, options ?? Plain, new float[dy], new float[6], new float[18], new float[24],
        new float[180], new float[u], new float[p],
            new float[v], new float[30], default, new float[dx], new float[dA], new float[dB], new float[dC],
            new float[dWg], new float[dRouterInput], new float[dp]);

    private static TestCaseData Case(string name, CoreMergeShape shape, CoreMergeOptions options, string argument,
        string text) =>
        new TestCaseData(shape, options, argument, text).SetArgDisplayNames(name);

    private static void Expect(Action call, string argument, string text)
    {
        ArgumentException? error = Assert.Catch<ArgumentException>(call);
        Assert.That(error?.ParamName, Is.EqualTo(argument), text);
        Assert.That(error?.Message, Does.Contain(text));
    }
}
