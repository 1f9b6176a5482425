using System.Diagnostics;

namespace MoEKernels.Benchmarks.Timing;

/// <summary>Milliseconds per call over all rounds.</summary>
internal sealed record Sample(double Min, double Median, int Rounds);

/// <summary>
/// Times competitors round by round, each once per round and each round beginning with another one, so that a slow spell of the
/// machine meets all of them.
/// </summary>
internal static class InterleavedTimer
{
    private const int MinRounds = 9;
    private const int MaxRounds = 500;

    // Long against the clock's resolution, short against the time slices of other processes.
    private static readonly TimeSpan BatchTime = TimeSpan.FromMilliseconds(1);
    private static readonly TimeSpan WarmUpTime = TimeSpan.FromMilliseconds(100);

    public static IReadOnlyList<Sample> Measure(IReadOnlyList<Action> competitors, TimeSpan budget)
    {
        int[] batches = [.. competitors.Select(BatchSize)];
        double roundTime = 0;
        for (int i = 0; i < competitors.Count; i++)
            roundTime += batches[i] * Time(competitors[i], batches[i]);
        int rounds = (int)double.Clamp(budget.TotalMilliseconds / roundTime, MinRounds, MaxRounds);

        double[][] times = [.. competitors.Select(_ => new double[rounds])];
        GC.Collect();
        for (int round = 0; round < rounds; round++)
        {
            for (int turn = 0; turn < competitors.Count; turn++)
            {
                int i = (round + turn) % competitors.Count;
                times[i][round] = Time(competitors[i], batches[i]);
            }
        }
        return [.. times.Select(Summarise)];
    }

    private static int BatchSize(Action action)
    {
        var watch = Stopwatch.StartNew();
        int calls = 0;
        do
        {
            action();
            calls++;
        }
        while (watch.Elapsed < WarmUpTime || calls < 3);
        return int.Max(1, (int)double.Ceiling(BatchTime / (watch.Elapsed / calls)));
    }

    private static double Time(Action action, int calls)
    {
        long start = Stopwatch.GetTimestamp();
        for (int i = 0; i < calls; i++)
            action();
        return Stopwatch.GetElapsedTime(start).TotalMilliseconds / calls;
    }

    private static Sample Summarise(double[] times)
    {
        Array.Sort(times);
        int middle = times.Length / 2;
        double median = times.Length % 2 == 1 ? times[middle] : (times[middle - 1] + times[middle]) / 2;
        return new Sample(times[0], median, times.Length);
    }
}
