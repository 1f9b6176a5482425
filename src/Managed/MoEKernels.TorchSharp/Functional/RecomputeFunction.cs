using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>A part of a model in autograd that keeps its inputs alone. Arguments: the inputs, an anchor that requires gradients, the call.</summary>
internal sealed class RecomputeFunction : autograd.MultiTensorFunction<RecomputeFunction>
{
    private const string CallKey = "call";

    public override string Name => "Recompute.Run";

    public override List<Tensor> forward(autograd.AutogradContext ctx, params object[] vars)
    {
        var call = (RecomputeCall)vars[^1];
        Tensor[] inputs = [.. vars[..^2].Cast<Tensor>()];
        ctx.set_materialize_grads(false);
        call.Needs = [.. inputs.Select(input => input.requires_grad)];
        ctx.save_data(CallKey, call);
        ctx.save_for_backward([.. inputs]);
        return [.. call.Outputs];
    }

    public override List<Tensor> backward(autograd.AutogradContext ctx, List<Tensor> grad_outputs)
    {
        var call = (RecomputeCall)ctx.get_data(CallKey);
        return PublicFunction.RunGuarded(Name, call.Backward, ctx, grad_outputs, argumentCount: call.Needs.Count + 2);
    }
}

/// <summary>What the graph keeps of a part: how to compute it again. Holds no tensor once forward is over.</summary>
/// <param name="function">The part.</param>
/// <param name="random">Where the generators stood.</param>
/// <param name="outputs">What the first pass gave: the output, then the auxiliary losses.</param>
/// <param name="lossOwners">Where the losses belong, in their order.</param>
internal sealed class RecomputeCall(
    Func<IReadOnlyList<Tensor>, Tensor> function, RecomputeRandom random, IReadOnlyList<Tensor> outputs, IReadOnlyList<PendingLoss> lossOwners)
{
    public IReadOnlyList<PendingLoss> LossOwners { get; } = lossOwners;

    /// <summary>What the first pass gave, until autograd has it.</summary>
    public IReadOnlyList<Tensor> Outputs { get; set; } = outputs;

    /// <summary>Which inputs require gradients.</summary>
    public IReadOnlyList<bool> Needs { get; set; } = [];

    /// <summary>The gradients of the inputs; those of parameters go to the parameters.</summary>
    public Tensor?[] Backward(IReadOnlyList<Tensor?> saved, IReadOnlyList<Tensor?> outputGradients)
    {
        using var scope = NewDisposeScope();
        var inputs = new Tensor[saved.Count];
        for (int i = 0; i < inputs.Length; i++)
            inputs[i] = Needs[i] ? saved[i]!.detach().requires_grad_() : saved[i]!.detach();

        var roots = new List<Tensor>();
        var gradients = new List<Tensor>();
        using (random.Return())
        using (enable_grad())
        using (var pass = new RecomputePass(isRepeat: true))
        {
            Tensor output = function(inputs);
            Tensor[] again = [output, .. pass.Losses.Select(loss => loss.Loss)];
            try
            {
                if (!pass.Losses.Select(loss => loss.Owner).SequenceEqual(LossOwners))
                    throw new InvalidOperationException($"The second pass made {pass.Losses.Count} auxiliary losses, the first {LossOwners.Count}; the part must do the same both times.");
                for (int i = 0; i < again.Length; i++)
                {
                    if (outputGradients[i] is not { } gradient || !again[i].requires_grad)
                        continue;
                    if (!again[i].shape.AsSpan().SequenceEqual(gradient.shape))
                        throw new InvalidOperationException($"The second pass gave shape [{string.Join(", ", again[i].shape)}], the first [{string.Join(", ", gradient.shape)}]; the part must do the same both times.");
                    roots.Add(again[i]);
                    gradients.Add(gradient);
                }
                if (roots.Count > 0)
                    autograd.backward(roots, gradients);
            }
            finally
            {
                foreach ((_, Tensor loss) in pass.Losses)
                    loss.Dispose();
            }
        }
        var result = new Tensor?[inputs.Length];
        for (int i = 0; i < inputs.Length; i++)
            result[i] = Needs[i] ? inputs[i].grad?.MoveToOuterDisposeScope() : null;
        return result;
    }
}
