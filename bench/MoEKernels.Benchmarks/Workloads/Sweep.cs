namespace MoEKernels.Benchmarks.Workloads;

/// <summary>One op with one of its dimensions growing.</summary>
/// <param name="Title">The op and what stays fixed.</param>
/// <param name="Axis">The dimension.</param>
/// <param name="Points">Its values, ascending, and the cases.</param>
internal sealed record Sweep(string Title, string Axis, IReadOnlyList<(long Value, WorkloadCase Case)> Points);
