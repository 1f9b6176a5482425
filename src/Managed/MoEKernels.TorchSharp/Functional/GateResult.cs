using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>What a gate decided for every token. Disposing it disposes the tensors.</summary>
public sealed class GateResult : IDisposable
{
    internal GateResult(Tensor weights, Tensor? ids, Tensor? counts, Tensor? logSumExp)
    {
        Weights = weights;
        Ids = ids;
        Counts = counts;
        LogSumExp = logSumExp;
    }

    /// <summary>[.., k], or [.., E] with <see cref="GateSelect.All"/>; f32 (f64 beside f64 logits); differentiable.</summary>
    public Tensor Weights { get; }

    /// <summary>
    /// The chosen experts, [.., k], best first; int32 from the op, int64 from the reference; null with <see cref="GateSelect.All"/>.
    /// </summary>
    public Tensor? Ids { get; }

    /// <summary>
    /// How often each expert was chosen, [E]; int32 from the op, int64 from the reference; null with <see cref="GateSelect.All"/>.
    /// </summary>
    public Tensor? Counts { get; }

    /// <summary>log sum_e exp(z_e / temperature), [..], f32 (f64 beside f64 logits); differentiable; null unless asked for.</summary>
    public Tensor? LogSumExp { get; }

    /// <summary>Disposes the tensors.</summary>
    public void Dispose()
    {
        Weights.Dispose();
        Ids?.Dispose();
        Counts?.Dispose();
        LogSumExp?.Dispose();
    }

    internal GateResult MoveToOuterDisposeScope()
    {
        Weights.MoveToOuterDisposeScope();
        Ids?.MoveToOuterDisposeScope();
        Counts?.MoveToOuterDisposeScope();
        LogSumExp?.MoveToOuterDisposeScope();
        return this;
    }
}
