using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>A module whose forward passes in training also make a loss, such as one that balances a router.</summary>
public interface IAuxiliaryLossModule
{
    /// <summary>
    /// The sum of the losses of all forward passes since the last call, weighted, as a scalar with a graph; null when there were none. It belongs to
    /// the caller's dispose scope.
    /// </summary>
    Tensor? TakeAuxiliaryLoss();
}
