using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>Lets libtorch keep the gradient of a leaf instead of copying it.</summary>
/// <remarks>
/// libtorch makes a gradient the leaf's <c>grad</c> without a copy when nothing else refers to it. But whoever returns one to libtorch from C#
/// holds a reference until long after that moment. Between the function and the leaf we therefore put a view: its backward makes a tensor
/// of its own over the gradient's memory, and that is what libtorch then finds to be unreferenced.
/// </remarks>
internal static class GradientTakeover
{
    /// <summary>Bytes from which a copy costs more than a view: 0.1 MB take about 10 microseconds, cold pages included.</summary>
    public const long LeastBytes = 96 * 1024;

    /// <summary>The input itself, or a view of it.</summary>
    public static Tensor Through(Tensor input) => input.is_leaf && input.numel() * input.ElementSize >= LeastBytes ? View(input) : input;

    private static Tensor View(Tensor input)
    {
        // Not its shape as an array: asking for that costs as much as the view.
        long[] shape = new long[(int)input.Dimensions];
        for (int i = 0; i < shape.Length; i++)
            shape[i] = input.size(i);
        return input.view(shape);
    }
}
