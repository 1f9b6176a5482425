using System.Diagnostics;

namespace MoEKernels.Benchmarks.Timing;

/// <summary>Milliseconds per call over all rounds.</summary>
/// <param name="Min">Least wall-clock time.</param>
/// <param name="Median">Median wall-clock time.</param>
/// <param name="CpuMedian">Median of the process's CPU time, in which waiting for a processor does not count.</param>
/// <param name="Rounds">How often it was measured.</param>
internal sealed record Sample(double Min, double Median, double CpuMedian, int Rounds);

/// <summary>
/// Times competitors round by round, each once per round and each round beginning with another one, so that a slow
/// spell of the machine meets all of them.
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
            roundTime += batches[i] * Time(competitors[i], batches[i]).Wall;
        int rounds = (int)double.Clamp(budget.TotalMilliseconds / roundTime, MinRounds, MaxRounds);

        (double Wall, double Cpu)[][] times = [.. competitors.Select(_ => new (double, double)[rounds])];
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

    private static (double Wall, double Cpu) Time(Action action, int calls)
    {
        TimeSpan cpuStart = Environment.CpuUsage.TotalTime;
        long start = Stopwatch.GetTimestamp();
        for (int i = 0; i < calls; i++)
            action();
        TimeSpan wall = Stopwatch.GetElapsedTime(start);
        TimeSpan cpu = Environment.CpuUsage.TotalTime - cpuStart;
        return (wall.TotalMilliseconds / calls, cpu.TotalMilliseconds / calls);
    }

    private static Sample Summarise((double Wall, double Cpu)[] times)
    {
        double[] wall = [.. times.Select(time => time.Wall).Order()];
        double[] cpu = [.. times.Select(time => time.Cpu).Order()];
        return new Sample(wall[0], MedianOf(wall), MedianOf(cpu), times.Length);
    }

    private static double MedianOf(double[] sorted)
    {
        int middle = sorted.Length / 2;
        return sorted.Length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
    }
}
