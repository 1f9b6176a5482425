using System.Globalization;
using MoEKernels.Benchmarks.Timing;
using MoEKernels.Benchmarks.Workloads;

namespace MoEKernels.Benchmarks.Reports;

/// <summary>What a run of the quick mode measured.</summary>
/// <param name="Machine">Where and when.</param>
/// <param name="Sections">One for each number of threads.</param>
internal sealed record Report(Machine Machine, IReadOnlyList<ReportSection> Sections);

/// <summary>All cases with one number of threads.</summary>
/// <param name="Threads">CPU threads of libtorch and of MoEKernels alike.</param>
/// <param name="Peaks">What the machine can do with them, measured before and after the cases.</param>
/// <param name="OtherProcessors">Processors that other processes kept busy on average; null where unknown.</param>
/// <param name="Rows">Cases and passes in the order measured.</param>
internal sealed record ReportSection(int Threads, Peaks Peaks, double? OtherProcessors, IReadOnlyList<ReportRow> Rows)
{
    /// <summary>Above this many processors kept busy by others, times are not worth quoting.</summary>
    private const double QuietLimit = 0.1;

    public bool? IsQuiet => OtherProcessors is { } busy ? busy <= QuietLimit : null;
}

/// <summary>One case and pass, with the times of every implementation, the baseline first.</summary>
internal sealed class ReportRow(
    WorkloadCase workloadCase, Pass pass, IEnumerable<(string Implementation, Sample Sample)> times)
{
    public WorkloadCase Case { get; } = workloadCase;

    public Pass Pass { get; } = pass;

    public IReadOnlyList<(string Implementation, Sample Sample)> Times { get; } = [.. times];

    public double Gigaflop => Case.Flops.Of(Pass) / 1e9;

    public Sample? Find(string implementation) =>
        Times.Where(entry => entry.Implementation == implementation).Select(entry => entry.Sample).SingleOrDefault();

    /// <summary>How many times faster than the baseline.</summary>
    public Speedup SpeedupOf(string implementation)
    {
        (Sample baseline, Sample sample) = (Times[0].Sample, Find(implementation)!);
        return new(baseline.Median / sample.Median, baseline.Min / sample.Min, baseline.CpuMedian / sample.CpuMedian);
    }

    public double GigaflopPerSecond(Sample sample) => Gigaflop / (sample.Median / 1e3);

    public double GigabytesPerSecond(Sample sample) => Case.Bytes.Of(Pass) / 1e9 / (sample.Median / 1e3);

    /// <summary>The time that the formula's operations, or its bytes, take at the machine's peaks, over the least time measured.</summary>
    public double ShareOfFloor(Sample sample, Peaks peaks) => peaks.FloorMilliseconds(Case.Flops, Case.Bytes, Pass) / sample.Min;

    /// <summary>The same with the operations of a dense A; null where that makes no difference.</summary>
    public double? ShareOfDenseFloor(Sample sample, Peaks peaks) => Case.DenseFlops == Case.Flops
        ? null
        : peaks.FloorMilliseconds(Case.DenseFlops, Case.Bytes, Pass) / sample.Min;

    public string ToConsoleLine()
    {
        string what = $"{Case.Op,-10} {Case.Shape,-38} {Case.Precision,-9} {MarkdownReport.NameOf(Pass),-16}";
        (double torch, double fused) = (Times[0].Sample.Median, Find(Implementation.Fused)!.Median);
        Speedup speedup = SpeedupOf(Implementation.Fused);
        return string.Create(CultureInfo.InvariantCulture,
            $"{what} torch {torch,9:F4} ms, fused {fused,9:F4} ms, {speedup.Median:F2}x (CPU time {speedup.Cpu:F2}x)");
    }
}

/// <summary>A ratio of times, by each of the measures.</summary>
internal readonly record struct Speedup(double Median, double Min, double Cpu);
