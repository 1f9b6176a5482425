using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>One pass through a part that <see cref="Recompute"/> runs, on the thread that runs it: the first one, or the one in backward.</summary>
internal sealed class RecomputePass : IDisposable
{
    [ThreadStatic]
    private static RecomputePass? _current;

    private readonly RecomputePass? _outer;
    private bool _isOpen = true;

    public RecomputePass(bool isRepeat)
    {
        _outer = _current;
        // A first pass inside of a second one is a repetition as well.
        IsRepeat = isRepeat || _outer is { IsRepeat: true };
        _current = this;
    }

    public static RecomputePass? Current => _current;

    public bool IsRepeat { get; }

    /// <summary>The auxiliary losses of the pass in their order, for the pass's user to dispose of.</summary>
    public List<(PendingLoss Owner, Tensor Loss)> Losses { get; } = [];

    /// <summary>Takes an auxiliary loss: it must leave the part as one of its outputs, else its graph would be lost or come twice.</summary>
    public void Collect(PendingLoss owner, Tensor loss) => Losses.Add((owner, loss.alias().DetachFromDisposeScope()));

    public void Dispose()
    {
        if (!_isOpen)
            return;
        _isOpen = false;
        _current = _outer;
    }
}
