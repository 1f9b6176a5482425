using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// Puts a function into libtorch's graph: as a <see cref="GraphNode"/>, which costs little, or through TorchSharp's public functions where its
/// native library does not offer what that takes.
/// </summary>
internal static class GraphFunction
{
    /// <summary>
    /// The AppContext switch that keeps to TorchSharp's public functions: a way out if the faster one should misbehave. To be set before the
    /// first function is called.
    /// </summary>
    public const string PublicOnlySwitch = "MoEKernels.TorchSharp.PublicAutogradOnly";

    private static readonly bool UsesNodes = !(AppContext.TryGetSwitch(PublicOnlySwitch, out bool publicOnly) && publicOnly) && GraphNode.IsUsable;

    /// <summary>Runs a function that is to be differentiated. Gradients are enabled, and an input requires one.</summary>
    /// <param name="plan">What to do in backward.</param>
    /// <param name="inputs">What gradients may belong to; null where not given. Entries may be replaced by views.</param>
    /// <param name="forward">Computes the outputs. Called with gradients disabled.</param>
    /// <returns>The outputs, as parts of the graph.</returns>
    public static Tensor[] Apply(GraphPlan plan, Tensor?[] inputs, Func<GraphRecord> forward)
    {
        GraphPlan kept = plan with { Needs = GradientNeeds.Of(inputs) };
        for (int i = 0; i < inputs.Length; i++)
        {
            if (kept.Needs[i] && kept.GivesAway(i))
                inputs[i] = GradientTakeover.Through(inputs[i]!);
        }
        return UsesNodes ? GraphNode.Apply(kept, inputs, forward) : PublicFunction.Apply(kept, inputs, forward);
    }
}
