using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// Trades time for memory: a part of a model keeps only its inputs for backward, which computes the part again. What <c>torch.utils.checkpoint</c> is in
/// PyTorch. Source: arXiv 1604.06174.
/// </summary>
/// <remarks>
/// <para>
/// Gradients are those without recomputation, to the bit where a parameter is used in one part alone. The second pass draws the random numbers of the
/// first, so dropout drops the same elements. It counts nothing for <see cref="SMoRALinear.UpdateRouterBias"/>, routing totals and
/// <see cref="RouterTrace"/>, and the losses of <see cref="TopKGate"/> enter <see cref="AdapterExtensions.AuxiliaryLoss"/> once, with their gradients.
/// Modules of your own that count something ask <see cref="IsRecomputing"/>.
/// </para>
/// <para>
/// Backward adds to the <c>grad</c> of the parameters that the part uses, whether they were asked for or not, as PyTorch's reentrant form does. So:
/// call <c>backward()</c> and not <c>autograd.grad</c>; hand over every tensor with a history as an input instead of capturing it; change neither
/// parameters, training mode nor load biases before backward. A failure in the second pass is thrown by the next call of the library as a
/// <see cref="MoeBackwardException"/>, see <see cref="MoeFunctional.ThrowPendingBackwardError"/>.
/// </para>
/// <para>
/// TorchSharp cannot read the state of a GPU's generator. With an input on CUDA the generators of all GPUs are therefore seeded anew, from the CPU's generator, before the first
/// pass and after the second.
/// </para>
/// </remarks>
public static class Recompute
{
    /// <summary>Whether this thread is in a second pass: what was counted, written down or moved in the first one must be left alone.</summary>
    public static bool IsRecomputing => RecomputePass.Current is { IsRepeat: true };

    /// <summary>Runs a module, and again in backward.</summary>
    /// <param name="module">The module. Where neither it nor the input requires gradients it is just called.</param>
    /// <param name="input">Its input.</param>
    /// <returns>What the module returns.</returns>
    /// <exception cref="MoeBackwardException">An earlier backward failed.</exception>
    public static Tensor Run(nn.Module<Tensor, Tensor> module, Tensor input)
    {
        ArgumentNullException.ThrowIfNull(module);
        ArgumentNullException.ThrowIfNull(input);
        if (!input.requires_grad && !module.parameters().Any(parameter => parameter.requires_grad))
        {
            BackwardGuard.ThrowIfPending();
            return module.call(input);
        }
        return RunAll(inputs => module.call(inputs[0]), [input]);
    }

    /// <summary>Runs a function, and again in backward.</summary>
    /// <param name="function">The function. It must return a new tensor.</param>
    /// <param name="input">Its input. The result requires gradients even when this does not, for the sake of parameters that the function uses.</param>
    /// <returns>What the function returns.</returns>
    /// <exception cref="MoeBackwardException">An earlier backward failed.</exception>
    public static Tensor Run(Func<Tensor, Tensor> function, Tensor input)
    {
        ArgumentNullException.ThrowIfNull(function);
        ArgumentNullException.ThrowIfNull(input);
        return RunAll(inputs => function(inputs[0]), [input]);
    }

    /// <summary>Runs a function of several tensors, and again in backward.</summary>
    /// <param name="function">The function. It must return a new tensor.</param>
    /// <param name="inputs">Its inputs, at least one, of any types; those with a history get gradients. The result requires gradients in any case.</param>
    /// <returns>What the function returns.</returns>
    /// <exception cref="ArgumentException">There is no input, or one is null.</exception>
    /// <exception cref="MoeBackwardException">An earlier backward failed.</exception>
    public static Tensor Run(Func<IReadOnlyList<Tensor>, Tensor> function, params IReadOnlyList<Tensor> inputs)
    {
        ArgumentNullException.ThrowIfNull(function);
        ArgumentNullException.ThrowIfNull(inputs);
        if (inputs.Count == 0)
            throw new ArgumentException("There is no input; expected at least one.", nameof(inputs));
        for (int i = 0; i < inputs.Count; i++)
            ArgumentNullException.ThrowIfNull(inputs[i], $"inputs[{i}]");
        return RunAll(function, [.. inputs]);
    }

    private static Tensor RunAll(Func<IReadOnlyList<Tensor>, Tensor> function, Tensor[] inputs)
    {
        BackwardGuard.ThrowIfPending();
        if (!is_grad_enabled())
            return function(inputs);
        using var scope = NewDisposeScope();
        var random = RecomputeRandom.Begin(inputs);
        // Outside of the autograd function: TorchSharp never lets go of one whose forward throws.
        using var pass = new RecomputePass(isRepeat: false);
        Tensor output;
        using (no_grad())
        {
            output = function(inputs) ?? throw new InvalidOperationException("The function returned null; expected a tensor.");
            if (inputs.Any(input => ReferenceEquals(input, output)))
                output = output.alias();
        }
        pass.Dispose();
        var call = new RecomputeCall(function, random, [output, .. pass.Losses.Select(loss => loss.Loss)], [.. pass.Losses.Select(loss => loss.Owner)]);
        // A function without an input that requires gradients would have no backward, and the parameters no gradients.
        Tensor anchor = zeros([], requires_grad: true);
        List<Tensor> results = RecomputeFunction.apply([.. inputs, anchor, call]);
        call.Outputs = [];
        for (int i = 0; i < call.LossOwners.Count; i++)
        {
            call.LossOwners[i].Add(results[i + 1]);
            pass.Losses[i].Loss.Dispose();
        }
        return results[0].MoveToOuterDisposeScope();
    }
}
