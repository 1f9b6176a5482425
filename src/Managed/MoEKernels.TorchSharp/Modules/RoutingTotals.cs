using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>Sums of routing decisions in double precision. Safe for several threads at once.</summary>
internal sealed class RoutingTotals(long routes)
{
    private readonly Lock _lock = new();
    private readonly double[] _totals = new double[routes];

    public void Add(Tensor totals)
    {
        if (Recompute.IsRecomputing)
            return;
        using var scope = NewDisposeScope();
        double[] values = totals.detach().to(ScalarType.Float64).cpu().data<double>().ToArray();
        lock (_lock)
        {
            for (int i = 0; i < values.Length; i++)
                _totals[i] += values[i];
        }
    }

    public double[] ToArray()
    {
        lock (_lock)
            return [.. _totals];
    }

    public void Reset()
    {
        lock (_lock)
            Array.Clear(_totals);
    }
}
