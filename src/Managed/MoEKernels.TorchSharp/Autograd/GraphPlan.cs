using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>What a function does in backward, without tensors, so that the graph may keep it.</summary>
internal abstract record GraphPlan
{
    /// <summary>Name of the function for error messages.</summary>
    public abstract string Name { get; }

    /// <summary>Which of the function's inputs require a gradient.</summary>
    public GradientNeeds Needs { get; init; }

    /// <summary>Whether the gradient of an input is memory of its own: not the gradient of an output.</summary>
    public virtual bool GivesAway(int input) => true;

    /// <summary>The gradient of every input, or null, as tensors that nothing else holds or as one of <paramref name="outputGradients"/>.</summary>
    /// <param name="saved">What forward saved, in its order.</param>
    /// <param name="outputGradients">The gradient of every output; null where undefined, but not everywhere.</param>
    public abstract Tensor?[] Backward(IReadOnlyList<Tensor?> saved, IReadOnlyList<Tensor?> outputGradients);
}

/// <summary>What a function's forward leaves for the graph.</summary>
/// <param name="Outputs">The differentiable outputs.</param>
/// <param name="Saved">Inputs and results that backward needs.</param>
internal readonly record struct GraphRecord(Tensor[] Outputs, Tensor?[] Saved);
