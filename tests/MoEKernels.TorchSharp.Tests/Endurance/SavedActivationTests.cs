using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>What an adapter keeps from forward to backward, beside its input and its output, in bytes per token.</summary>
public sealed partial class SavedActivationTests
{
    private const long Tokens = 20_000;
    private const long Width = 96;
    private const long Rank = 32;
    private const long Active = 4;
    private const long Experts = 6;

    // One entry per adapter: its layer, and the bytes.
    private static IEnumerable<TestCaseData> Adapters()
    {
        TestCaseData Case(Func<AdapterLinear> make, long bytes, string name) => new TestCaseData(make, bytes).SetArgDisplayNames(name);
        // u.
        yield return Case(() => new LoRALinear(nn.Linear(Width, Width), new LoRAConfig { Rank = Rank }), 4 * Rank, "LoRA");
        // ids, gates and u of the active ranks; every logit, since the softmax and the sigmoid are computed anew from them.
        yield return Case(
            () => new SMoRALinear(nn.Linear(Width, Width), new SMoRAConfig { Rank = Rank, ActiveRanks = Active }), 3 * 4 * Active + 4 * Rank, "SMoRA");
        // u, p and v. A merged core per token would be r^2.
        yield return Case(
            () => new CoMoLLinear(nn.Linear(Width, Width), new CoMoLConfig { Rank = Rank, Experts = Experts, Dropout = 0, CoreDropout = 0 }),
            4 * (2 * Rank + Experts), "CoMoL");
    }

    [TestCaseSource(nameof(Adapters))]
    [Platform("Linux", Reason = "asks glibc how much is allocated")]
    public void Layer_KeepsNoMoreThanItsDocumentationSays(Func<AdapterLinear> make, long bytesPerToken)
    {
        using var scope = NewDisposeScope();
        using AdapterLinear layer = make();
        Tensor x = randn(Tokens, Width).requires_grad_();
        double kept = Kept(layer, x);
        Assert.That(kept, Is.EqualTo(bytesPerToken).Within(2).Percent, "bytes per token");
        using (no_grad())
            Assert.That(Kept(layer, x), Is.EqualTo(0).Within(1), "bytes per token without a graph");
    }

    // Beside x and y. What other threads, such as the JIT's, allocate or free meanwhile is counted, too, in few of the tries.
    private static double Kept(AdapterLinear layer, Tensor x)
    {
        const int Tries = 9;
        // Once to make what stays: contexts, workspaces, managed memory.
        layer.call(x).Dispose();
        return Enumerable.Range(0, Tries).Select(_ => KeptOnce(layer, x)).Order().ElementAt(Tries / 2);
    }

    private static double KeptOnce(AdapterLinear layer, Tensor x)
    {
        long before = AllocatedBytes();
        using Tensor y = layer.call(x);
        long after = AllocatedBytes();
        return (after - before - y.numel() * y.ElementSize) / (double)Tokens;
    }

    private static long AllocatedBytes()
    {
        // Nothing may wait for the finaliser meanwhile.
        GC.Collect();
        GC.WaitForPendingFinalizers();
        MallInfo info = mallinfo2();
        return (long)(info.InUse + info.Mapped);
    }

    [LibraryImport("libc")]
    private static partial MallInfo mallinfo2();

    // Ten sizes: those of the mapped blocks and of what is in use are at 4 and 7.
    [StructLayout(LayoutKind.Explicit, Size = 80)]
    private readonly struct MallInfo
    {
        [FieldOffset(32)]
        public readonly nuint Mapped;

        [FieldOffset(56)]
        public readonly nuint InUse;
    }
}
