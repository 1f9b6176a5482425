namespace FineTune;

/// <summary>
/// A summary of repeated timings. The least is what the machine can do, the median what a run sees; a gap between them is other work on
/// the machine.
/// </summary>
/// <param name="Count">The number of timings.</param>
/// <param name="MinMilliseconds">The least.</param>
/// <param name="MedianMilliseconds">The median.</param>
internal sealed record Durations(int Count, double MinMilliseconds, double MedianMilliseconds)
{
    /// <summary>Summarises timings.</summary>
    /// <param name="timings">At least one.</param>
    public static Durations Of(IEnumerable<TimeSpan> timings)
    {
        double[] sorted = [.. timings.Select(timing => timing.TotalMilliseconds).Order()];
        int middle = sorted.Length / 2;
        double median = sorted.Length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
        return new Durations(sorted.Length, sorted[0], median);
    }
}
