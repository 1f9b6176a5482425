using System.Diagnostics;
using MoEKernels.Benchmarks.Workloads;
using static TorchSharp.torch;

namespace MoEKernels.Benchmarks.Timing;

/// <summary>What the machine can do with the session's threads.</summary>
/// <param name="Gigaflops">The best rate of libtorch's f32 matrix products, in billions of operations a second.</param>
/// <param name="Gigabytes">The rate of a copy far larger than the caches, bytes read and bytes written, in billions a second.</param>
internal sealed record Peaks(double Gigaflops, double Gigabytes)
{
    private const long CopyBytes = 256L << 20;
    private static readonly TimeSpan TimePerPeak = TimeSpan.FromSeconds(0.7);

    public static Peaks Measure()
    {
        using var scope = NewDisposeScope();
        using var noGradients = no_grad();
        double product = new long[] { 512, 1024, 1536 }.Max(n =>
        {
            Tensor a = randn(n, n), b = randn(n, n);
            return 2.0 * n * n * n / Seconds(() => a.mm(b).Dispose());
        });
        Tensor source = zeros(CopyBytes / sizeof(float)), target = zeros(CopyBytes / sizeof(float));
        double copy = 2.0 * CopyBytes / Seconds(() => target.copy_(source));
        return new Peaks(product / 1e9, copy / 1e9);
    }

    /// <summary>The better of each: peaks are measured before and after what is compared with them.</summary>
    public Peaks BestOf(Peaks other) => new(double.Max(Gigaflops, other.Gigaflops), double.Max(Gigabytes, other.Gigabytes));

    /// <summary>Milliseconds that a pass takes at least, if the operands come from memory: operations at the peak rate, or bytes at the copy's.</summary>
    public double FloorMilliseconds(FlopCount flops, ByteCount bytes, Pass pass) =>
        double.Max(flops.Of(pass) / (Gigaflops * 1e6), bytes.Of(pass) / (Gigabytes * 1e6));

    private static double Seconds(Action action)
    {
        double best = double.PositiveInfinity;
        action();
        var watch = Stopwatch.StartNew();
        while (watch.Elapsed < TimePerPeak)
        {
            long start = Stopwatch.GetTimestamp();
            action();
            best = double.Min(best, Stopwatch.GetElapsedTime(start).TotalSeconds);
        }
        return best;
    }
}
