using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>Which inputs of a function require a gradient, by position. TorchSharp's autograd context cannot say.</summary>
internal readonly record struct GradientNeeds(uint Bits)
{
    public bool this[int input] => (Bits >> input & 1) != 0;

    public static GradientNeeds Of(params ReadOnlySpan<Tensor?> inputs)
    {
        uint bits = 0;
        for (int i = 0; i < inputs.Length; i++)
        {
            if (inputs[i] is { requires_grad: true })
                bits |= 1u << i;
        }
        return new GradientNeeds(bits);
    }

    public bool AnyOf(params ReadOnlySpan<int> inputs)
    {
        foreach (int input in inputs)
        {
            if (this[input])
                return true;
        }
        return false;
    }
}
