using MoEKernels.Benchmarks.Timing;
using MoEKernels.Benchmarks.Workloads;

namespace MoEKernels.Benchmarks.Reports;

/// <summary>A <see cref="Sweep"/> with its times.</summary>
internal sealed record MeasuredSweep(string Title, string Axis, IReadOnlyList<(long Value, Pass Pass, Sample Torch, Sample Fused)> Points);
