namespace MoEKernels.Benchmarks.Workloads;

/// <summary>What is run and timed.</summary>
internal enum Pass
{
    /// <summary>Inference: forward without a graph.</summary>
    Forward,

    /// <summary>A training step's share: forward with a graph, then backward to every differentiable operand.</summary>
    ForwardBackward,
}
