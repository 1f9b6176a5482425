using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// How often each expert was chosen since the last update of the load bias. Safe for several threads at once.
/// </summary>
internal sealed class LoadBalance(long experts) : IDisposable
{
    private readonly Lock _lock = new();
    private Tensor? _counts;

    public void Add(Tensor counts)
    {
        lock (_lock)
        {
            if (_counts is not null && _counts.device_type == counts.device_type && _counts.device_index == counts.device_index)
            {
                _counts.add_(counts);
                return;
            }
            using Tensor? before = _counts;
            using Tensor? moved = before?.to(counts.device);
            _counts = (moved is null ? counts.to(ScalarType.Int32, copy: true) : moved.add(counts).to(ScalarType.Int32)).DetachFromDisposeScope();
        }
    }

    /// <summary>The counts as numbers; zeros when nothing was counted.</summary>
    public int[] ToArray()
    {
        lock (_lock)
        {
            if (_counts is null)
                return new int[experts];
            using Tensor host = _counts.cpu();
            return host.data<int>().ToArray();
        }
    }

    /// <summary>Hands out the counts and starts anew; null when nothing was counted. The caller disposes of them.</summary>
    public Tensor? Take()
    {
        lock (_lock)
        {
            Tensor? counts = _counts;
            _counts = null;
            return counts;
        }
    }

    public void Dispose() => Take()?.Dispose();
}
