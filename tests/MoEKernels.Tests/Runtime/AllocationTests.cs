namespace MoEKernels.Tests;

/// <summary>A call must cost the garbage collector nothing, whichever form it takes.</summary>
public sealed class AllocationTests
{
    private const int Calls = 200;

    private static readonly GateShape Shape = new(8, 16, 4);

    private readonly float[] _logits = TestData.To<float>(TestData.Uniform(1, 8 * 16));
    private readonly int[] _ids = new int[8 * 4];
    private readonly float[] _weights = new float[8 * 4];

    [Test]
    public void Spans_AllocateNothing() =>
        Assert.That(Allocated(() => Gate.Forward(Shape, default, _logits, _ids, _weights)), Is.Zero);

    [Test]
    public unsafe void RawForm_AllocatesNothing()
    {
        fixed (float* logits = _logits, weights = _weights)
        fixed (int* ids = _ids)
        {
            GateArgs args = new()
            {
                Shape = Shape,
                Logits = (nint)logits,
                Ids = (nint)ids,
                Weights = (nint)weights,
            };
            long bytes = Gate.ForwardWorkspace(MoeContext.Default, args);
            fixed (byte* workspace = new byte[bytes + 1])
            {
                nint scratch = (nint)workspace;
                Assert.That(Allocated(() => Gate.Forward(MoeContext.Default, args, scratch, bytes, 0)), Is.Zero);
            }
        }
    }

    [Test]
    public void Workspace_FromThePool_AllocatesNothingOnceWarm()
    {
        RankLoraShape shape = new(64, 32, 32, 16, 4);
        RankLoraOptions options = RankLoraOptions.Smora(1, 4);
        float[] x = new float[64 * 32], a = new float[16 * 32], y = new float[64 * 32], gates = new float[64 * 4];
        float[] bias = new float[16];
        int[] ids = new int[64 * 4];

        Assert.That(Allocated(() => RankLora.Forward(shape, options, x, a, a, y, ids, gates, a, bias)), Is.Zero);
    }

    private static long Allocated(Action call)
    {
        // Tiered compilation and the pool settle first.
        for (int i = 0; i < Calls; i++)
            call();
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < Calls; i++)
            call();
        return GC.GetAllocatedBytesForCurrentThread() - before;
    }
}
