using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// What stands between a backward function and libtorch: nothing may be thrown there, and the tensors it returns must outlive it.
/// </summary>
internal static class BackwardGuard
{
    // libtorch gets raw handles of the returned gradients, after the managed objects were dropped; a collection in between would free them.
    // So they stay here until this thread's next backward. On CUDA that thread is libtorch's own.
    [ThreadStatic]
    private static List<Tensor>? _returned;

    private static Exception? _pending;

    /// <summary>What the last backward on this thread returned.</summary>
    public static IReadOnlyList<Tensor> Returned => _returned ?? [];

    /// <summary>Throws the failure of an earlier backward, once.</summary>
    public static void ThrowIfPending()
    {
        if (Volatile.Read(ref _pending) is not null && Interlocked.Exchange(ref _pending, null) is { } failure)
            throw failure;
    }

    /// <summary>Runs a backward function.</summary>
    /// <param name="name">Name of the function for error messages.</param>
    /// <param name="backward">From what was saved and the gradients of the outputs, not all of which are null, to those of the inputs.</param>
    /// <param name="unpack">Gets what forward saved.</param>
    /// <param name="outputGradients">What libtorch passed, null where undefined; disposed of here unless returned as a gradient.</param>
    /// <returns>The gradients of the inputs; fewer of them where the last ones are undefined.</returns>
    public static Tensor?[] Run(
        string name, Func<Tensor?[], Tensor?[], Tensor?[]> backward, Func<Tensor?[]> unpack, Tensor?[] outputGradients)
    {
        try
        {
            DisposeReturned();
            if (is_grad_enabled())
                Remember(new MoeBackwardException($"{name} can be differentiated once, but its backward was asked for a graph of its own (create_graph)."));
            Tensor?[] saved = unpack();
            Tensor?[] gradients = Array.Exists(outputGradients, gradient => gradient is not null) ? backward(saved, outputGradients) : [];
            foreach (Tensor? gradient in gradients)
            {
                if (gradient is not null)
                    (_returned ??= []).Add(gradient.DetachFromDisposeScope());
            }
            DisposeExcept(saved, gradients);
            DisposeExcept(outputGradients, gradients);
            return gradients;
        }
        catch (Exception e)
        {
            // Tensors made so far are left to the finaliser: nothing here may fail a second time.
            Remember(new MoeBackwardException($"The backward of {name} failed, and its gradients are missing: {e.Message}", e));
            return [];
        }
    }

    /// <summary>Keeps a failure for the next managed call, unless there is one already.</summary>
    public static void Remember(Exception failure) => Interlocked.CompareExchange(ref _pending, failure, null);

    private static void DisposeReturned()
    {
        if (_returned is null)
            return;
        foreach (Tensor tensor in _returned)
            tensor.Dispose();
        _returned.Clear();
    }

    // By reference: Tensor.Equals compares elements.
    private static void DisposeExcept(Tensor?[] tensors, Tensor?[] kept)
    {
        foreach (Tensor? tensor in tensors)
        {
            if (tensor is not null && !Array.Exists(kept, other => ReferenceEquals(other, tensor)))
                tensor.Dispose();
        }
    }
}
