namespace MoEKernels.TorchSharp;

/// <summary>A module with a load bias that an explicit call moves against the load, outside of autograd.</summary>
public interface ILoadBalancedModule
{
    /// <summary>Whether there is a load bias.</summary>
    bool HasLoadBias { get; }

    /// <summary>One step of load balancing with the counts since the last one, which start anew. Does nothing when nothing was counted.</summary>
    /// <exception cref="InvalidOperationException">There is no load bias.</exception>
    void UpdateRouterBias();
}
