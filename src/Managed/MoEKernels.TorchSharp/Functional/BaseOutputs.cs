using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>Where an op's output comes from when it is added to a base output.</summary>
internal static class BaseOutputs
{
    /// <summary>
    /// The output tensor of a call: new, or a copy of the base output, or the base output's own memory. In the last two cases the op shall
    /// accumulate. Sharing memory is for base outputs that nobody else holds and no operation saved, as a linear layer's own.
    /// </summary>
    public static Tensor Begin(Tensor? baseOutput, bool reuse, Tensor like, long width, ref CallFlags flags)
    {
        if (baseOutput is null)
            return OpTensors.EmptyWithWidth(like, width, like.dtype);
        flags |= CallFlags.AccumulateOutput;
        Tensor shared = baseOutput.detach();
        if (reuse && shared.is_contiguous())
            return shared;
        using (shared)
            return shared.is_contiguous() ? shared.clone() : shared.contiguous();
    }
}
