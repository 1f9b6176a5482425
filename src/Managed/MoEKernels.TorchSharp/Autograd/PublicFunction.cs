using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>Every function as one of TorchSharp's autograd functions. Arguments: the inputs, then a <see cref="Call"/>.</summary>
internal sealed class PublicFunction : autograd.MultiTensorFunction<PublicFunction>
{
    private const string PlanKey = "plan";

    public override string Name => "MoeFunctional";

    public static Tensor[] Apply(GraphPlan plan, Tensor?[] inputs, Func<GraphRecord> forward) =>
        [.. apply([.. inputs!, new Call(plan, inputs.Length, forward)])];

    public override List<Tensor> forward(autograd.AutogradContext ctx, params object[] vars)
    {
        var call = (Call)vars[^1];
        ctx.set_materialize_grads(false);
        GraphRecord record = call.Forward();
        ctx.save_data(PlanKey, call.WithoutForward());
        ctx.save_for_backward([.. record.Saved!]);
        return [.. record.Outputs];
    }

    public override List<Tensor> backward(autograd.AutogradContext ctx, List<Tensor> grad_outputs)
    {
        var call = (Call)ctx.get_data(PlanKey);
        return RunGuarded(call.Plan.Name, call.Plan.Backward, ctx, grad_outputs, argumentCount: call.InputCount + 1);
    }

    /// <summary>The backward of one of TorchSharp's functions, as <see cref="BackwardGuard"/> wants it to be run.</summary>
    /// <param name="name">Name of the function for error messages.</param>
    /// <param name="backward">See <see cref="BackwardGuard.Run"/>.</param>
    /// <param name="context">Has what forward saved.</param>
    /// <param name="outputGradients">What TorchSharp passed.</param>
    /// <param name="argumentCount">Arguments of the forward function, tensors or not.</param>
    /// <returns>A gradient, or null, for every argument.</returns>
    public static List<Tensor> RunGuarded(
        string name, Func<Tensor?[], Tensor?[], Tensor?[]> backward, autograd.AutogradContext context, List<Tensor> outputGradients, int argumentCount)
    {
        Tensor?[] defined = [.. outputGradients.Select(tensor => tensor is null || tensor.IsInvalid ? null : tensor)];
        Tensor?[] gradients = BackwardGuard.Run(name, backward, () => [.. context.get_saved_variables()], defined);
        var result = new List<Tensor?>(argumentCount);
        for (int i = 0; i < argumentCount; i++)
            result.Add(i < gradients.Length ? gradients[i] : null);
        return result!;
    }

    private sealed record Call(GraphPlan Plan, int InputCount, Func<GraphRecord> Forward)
    {
        // The graph must not keep what forward holds.
        public Call WithoutForward() => this with { Forward = static () => default };
    }
}
