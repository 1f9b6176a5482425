using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// How often each expert was chosen since the last update of the load bias. Safe for several threads at once.
/// </summary>
/// <remarks>
/// The counts stay on the device of the forward passes, so that counting never waits for one. They exist from the start: a tensor made inside
/// inference mode could not be added to outside of it.
/// </remarks>
internal sealed class LoadBalance(long experts, Device? device) : IDisposable
{
    private readonly Lock _lock = new();
    private Tensor _counts = zeros(experts, dtype: ScalarType.Int32, device: device).DetachFromDisposeScope();
    private bool _isEmpty = true;

    public void Add(Tensor counts)
    {
        if (Recompute.IsRecomputing)
            return;
        lock (_lock)
        {
            MoveTo(counts);
            _counts.add_(counts);
            _isEmpty = false;
        }
    }

    public int[] ToArray()
    {
        lock (_lock)
        {
            using Tensor host = _counts.cpu();
            return host.data<int>().ToArray();
        }
    }

    /// <summary>Uses the counts on the device of a tensor and starts anew; does nothing when nothing was counted.</summary>
    public void Take(Tensor like, Action<Tensor> use)
    {
        lock (_lock)
        {
            if (_isEmpty)
                return;
            MoveTo(like);
            use(_counts);
            _counts.zero_();
            _isEmpty = true;
        }
    }

    public void Clear()
    {
        lock (_lock)
        {
            _counts.zero_();
            _isEmpty = true;
        }
    }

    public void Dispose() => _counts.Dispose();

    private void MoveTo(Tensor like)
    {
        if (_counts.device_type == like.device_type && _counts.device_index == like.device_index)
            return;
        using Tensor before = _counts;
        _counts = before.to(like.device).DetachFromDisposeScope();
    }
}
