using System.Diagnostics;
using System.Globalization;

namespace MoEKernels.Benchmarks.Timing;

/// <summary>How busy other processes kept the machine while something was measured. Known on Linux only.</summary>
internal sealed class OtherLoad
{
    // The unit of /proc/stat, the same on every Linux that .NET runs on.
    private const double TicksPerSecond = 100;
    private const int IdleColumn = 3;
    private const int WaitColumn = 4;

    private readonly long _start = Stopwatch.GetTimestamp();
    private readonly double? _busyAtStart = BusySeconds();
    private readonly TimeSpan _ownAtStart = OwnTime();

    /// <summary>Processors that others kept busy on average since this object was made; null where unknown.</summary>
    public double? Processors()
    {
        if (_busyAtStart is not { } before || BusySeconds() is not { } now)
            return null;
        double own = (OwnTime() - _ownAtStart).TotalSeconds;
        return double.Max(0, now - before - own) / Stopwatch.GetElapsedTime(_start).TotalSeconds;
    }

    private static TimeSpan OwnTime()
    {
        using var process = Process.GetCurrentProcess();
        return process.TotalProcessorTime;
    }

    private static double? BusySeconds()
    {
        if (!OperatingSystem.IsLinux())
            return null;
        // cpu user nice system idle iowait irq softirq steal guest guest_nice; guest time is part of user time.
        string line = File.ReadLines("/proc/stat").First();
        double[] ticks = [.. line.Split(' ', StringSplitOptions.RemoveEmptyEntries).Skip(1).Take(8)
            .Select(field => double.Parse(field, CultureInfo.InvariantCulture))];
        return (ticks.Sum() - ticks[IdleColumn] - ticks[WaitColumn]) / TicksPerSecond;
    }
}
