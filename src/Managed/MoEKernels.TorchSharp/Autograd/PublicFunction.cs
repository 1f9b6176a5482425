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
        Tensor?[] outputGradients = [.. grad_outputs.Select(tensor => tensor is null || tensor.IsInvalid ? null : tensor)];
        Tensor?[] gradients = BackwardGuard.Run(call.Plan, () => [.. ctx.get_saved_variables()], outputGradients);
        var result = new List<Tensor?>(call.InputCount + 1);
        for (int i = 0; i <= call.InputCount; i++)
            result.Add(i < gradients.Length ? gradients[i] : null);
        return result!;
    }

    private sealed record Call(GraphPlan Plan, int InputCount, Func<GraphRecord> Forward)
    {
        // The graph must not keep what forward holds.
        public Call WithoutForward() => this with { Forward = static () => default };
    }
}
