using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>The auxiliary loss of forward passes until somebody takes it. Safe for several threads at once.</summary>
internal sealed class PendingLoss : IDisposable
{
    private readonly Lock _lock = new();
    private Tensor? _sum;

    public void Add(Tensor loss)
    {
        if (RecomputePass.Current is { } pass)
        {
            pass.Collect(this, loss);
            return;
        }
        lock (_lock)
        {
            using Tensor? before = _sum;
            _sum = (before is null ? loss.alias() : before + loss).DetachFromDisposeScope();
        }
    }

    public Tensor? Take()
    {
        lock (_lock)
        {
            using Tensor? sum = _sum;
            _sum = null;
            // A new handle, which the caller's scope owns.
            return sum?.alias();
        }
    }

    public void Dispose()
    {
        lock (_lock)
        {
            _sum?.Dispose();
            _sum = null;
        }
    }
}
