using System.Runtime.CompilerServices;
using MoEKernels;

// Runs the three ops, forward and backward, and the device layer without a JIT, on numbers that are known. Prints OK and
// returns 0, or says what is wrong. Run it with
//   dotnet publish tests/MoEKernels.AotProbe -c Release -o <folder> && <folder>/MoEKernels.AotProbe
// `dotnet run` works too, but then proves nothing about native compilation.

Console.WriteLine(RuntimeFeature.IsDynamicCodeSupported ? "running on the JIT" : "running as native code");
Console.WriteLine(MoeRuntime.Describe());

int failures = 0;
RunGate();
RunRankLora();
RunCoreMerge();
RunErrors();
RunDeviceLayer();
Console.WriteLine(failures == 0 ? "OK" : $"{failures} checks failed");
return failures == 0 ? 0 : 1;

void RunGate()
{
    int[] ids = new int[2];
    float[] weights = new float[2];
    GateOptions options = new() { Normalize = GateNormalize.SumToOne };
    GateShape shape = new(1, 3, 2);
    float[] logits = [0, 1, 2];
    Gate.Forward(shape, options, logits, ids, weights);
    Expect("gate ids", [ids[0], ids[1]], [2, 1]);
    Expect("gate weights", [weights[0], weights[1]], [0.7310586, 0.2689414]);

    float[] dLogits = new float[3];
    Gate.Backward(shape, options, logits, ids, [1f, 0], dLogits);
    Expect("gate dlogits", [dLogits[0], dLogits[1], dLogits[2]], [0, -0.1966119, 0.1966119]);
}

void RunRankLora()
{
    RankLoraShape shape = new(1, 2, 2, 3, 2);
    RankLoraOptions options = RankLoraOptions.Smora(alpha: 4, k: 2);
    double[] x = [1, -2];
    double[] a = [1, 0, 0.5, 0.5, 0, -1];
    double[] b = [1, 2, 3, 0, -1, 1];
    double[] wr = [0.2, 0.1, -0.3, 0.4, 0, -0.5];
    double[] bias = [0, 0.01, -0.02];
    double[] y = new double[2], gates = new double[2], u = new double[2], logits = new double[3], dx = new double[2];
    int[] ids = new int[2];
    RankLora.Forward(shape, options, x, a, b, y, ids, gates, wr, bias, u: u, gateLogits: logits);
    Expect("rank_lora y", y, [15.7427611047, 4.6971044419]);
    RankLora.Backward(shape, options, [1, 1], x, a, b, ids, gates, u, wr, bias, gateLogits: logits, dx: dx);
    Expect("rank_lora dx", dx, [0.9727082929, -10.6719561849]);
}

void RunCoreMerge()
{
    CoreMergeShape shape = new(1, 2, 2, 2, 2);
    CoreMergeOptions options = new() { Scale = 1 };
    double[] x = [1, -2];
    double[] a = [1, 0, 0.5, 0.5];
    double[] b = [1, 2, 0, -1];
    double[] c = [1, 0, 0, 1, 0, 2, -1, 0];
    double[] wg = [0.3, -0.2, 0, 0.1];
    double[] y = new double[2], u = new double[2], p = new double[2], v = new double[2], dx = new double[2];
    CoreMerge.Forward(shape, options, x, a, b, c, y, u, p, v, wg);
    Expect("core_merge y", y, [1.7521234472, -0.4734019151]);
    CoreMerge.Backward(shape, options, [1, 1], x, a, b, c, u, p, v, wg, dx: dx);
    Expect("core_merge dx", dx, [1.4286723120, 0.1819669219]);
}

// An error crosses the boundary as text and becomes an exception, without reflection.
void RunErrors()
{
    try
    {
        Gate.Forward(MoeContext.Default, new GateArgs { Shape = new GateShape(1, 3, 4) }, 0, 0, 0);
        Fail("k = 4 of 3 experts was accepted");
    }
    catch (ArgumentException error) when (error.Message.Contains("got 4", StringComparison.Ordinal))
    {
        Console.WriteLine($"refused as it should be: {error.Message}");
    }
}

// Memory, a stream, events and a graph as a program for a GPU uses them; on the CPU's context only the graph is missing.
void RunDeviceLayer()
{
    using MoeContext context = new();
    using CudaStream stream = new(context);
    using CudaEvent start = new(context), end = new(context);
    using DeviceBuffer<float> logits = new(context, [0f, 1, 2]);
    using DeviceBuffer<float> weights = new(context, 2);
    using DeviceBuffer<int> ids = new(context, 2);
    GateArgs args = new()
    {
        Shape = new GateShape(1, 3, 2),
        Options = new GateOptions { Normalize = GateNormalize.SumToOne },
        Logits = logits.Address,
        Ids = ids.Address,
        Weights = weights.Address,
    };
    using DeviceBuffer<byte> workspace = new(context, Gate.ForwardWorkspace(context, args));
    start.Record(stream);
    Gate.Forward(context, args, workspace.Address, workspace.Length, stream.Handle);
    end.Record(stream);
    float[] result = weights.ToArray(stream);
    Expect("gate weights on device buffers", [result[0], result[1]], [0.7310586, 0.2689414]);
    if (end.ElapsedSince(start) < TimeSpan.Zero)
        Fail("the gate ended before it began");
    try
    {
        using CudaGraph graph = CudaGraph.Capture(stream, () => { });
        Fail("the CPU captured a graph");
    }
    catch (MoeUnsupportedException error)
    {
        Console.WriteLine($"refused as it should be: {error.Message}");
    }
}

void Expect(string what, double[] got, double[] expected)
{
    for (int i = 0; i < expected.Length; i++)
    {
        if (!(Math.Abs(got[i] - expected[i]) <= 1e-6))
            Fail($"{what}[{i}]: got {got[i]:R}, expected {expected[i]:R}");
    }
}

void Fail(string text)
{
    Console.Error.WriteLine(text);
    failures++;
}
