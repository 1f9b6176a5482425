using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// What stands between a backward function and TorchSharp: nothing may be thrown there, and the tensors it returns must outlive it.
/// </summary>
internal static class BackwardGuard
{
    // TorchSharp hands raw handles of the returned gradients to libtorch and drops the managed objects; a collection in between would free
    // them. So they stay here until this thread's next backward. On CUDA that thread is libtorch's own.
    [ThreadStatic]
    private static List<Tensor>? _returned;

    private static Exception? _pending;

    /// <summary>Throws the failure of an earlier backward, once.</summary>
    public static void ThrowIfPending()
    {
        if (Volatile.Read(ref _pending) is not null && Interlocked.Exchange(ref _pending, null) is { } failure)
            throw failure;
    }

    /// <summary>Runs a backward function.</summary>
    /// <param name="function">Name of the function for error messages.</param>
    /// <param name="context">The autograd context.</param>
    /// <param name="outputGradients">What TorchSharp passed; disposed of here unless returned as a gradient.</param>
    /// <param name="inputCount">Arguments of the forward function, tensors or not.</param>
    /// <param name="compute">From (saved tensors, output gradients; null where undefined) to the gradient of every argument.</param>
    public static List<Tensor?> Run(
        string function,
        autograd.AutogradContext context,
        List<Tensor> outputGradients,
        int inputCount,
        Func<IReadOnlyList<Tensor?>, IReadOnlyList<Tensor?>, Tensor?[]> compute)
    {
        Tensor?[] gradients = [];
        List<Tensor>? saved = null;
        try
        {
            DisposeReturned();
            if (is_grad_enabled())
                Remember(new MoeBackwardException($"{function} can be differentiated once, but its backward was asked for a graph of its own (create_graph)."));
            saved = context.get_saved_variables();
            gradients = compute(saved!, [.. outputGradients.Select(DefinedOrNull)]);
            foreach (Tensor? gradient in gradients)
            {
                if (gradient is not null)
                    (_returned ??= []).Add(gradient.DetachFromDisposeScope());
            }
            DisposeExcept(saved, gradients);
            DisposeExcept(outputGradients, gradients);
        }
        catch (Exception e)
        {
            // Tensors made so far are left to the finaliser: nothing here may fail a second time.
            Remember(new MoeBackwardException($"The backward of {function} failed, and its gradients are missing: {e.Message}", e));
            gradients = [];
        }

        var result = new List<Tensor?>(inputCount);
        for (int i = 0; i < inputCount; i++)
            result.Add(i < gradients.Length ? gradients[i] : null);
        return result;
    }

    private static void Remember(Exception failure) => Interlocked.CompareExchange(ref _pending, failure, null);

    private static void DisposeReturned()
    {
        if (_returned is null)
            return;
        foreach (Tensor tensor in _returned)
            tensor.Dispose();
        _returned.Clear();
    }

    private static Tensor? DefinedOrNull(Tensor? tensor) => tensor is null || tensor.IsInvalid ? null : tensor;

    // By reference: Tensor.Equals compares elements.
    private static void DisposeExcept(List<Tensor> tensors, Tensor?[] kept)
    {
        foreach (Tensor? tensor in tensors)
        {
            if (tensor is not null && !Array.Exists(kept, other => ReferenceEquals(other, tensor)))
                tensor.Dispose();
        }
    }
}
