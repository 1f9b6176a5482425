using TorchSharp.Modules;
using TorchSharp.Utils;

using static TorchSharp.torch;

namespace Llama;

/// <summary>Divides by the root of the mean square, computed in f32 whatever the type of the input, and multiplies by a weight for each channel.</summary>
internal sealed class RmsNorm : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "weight")]
    private readonly Parameter _weight;

    private readonly double _epsilon;

    public RmsNorm(int width, double epsilon, ScalarType dtype)
        : base(nameof(RmsNorm))
    {
        _weight = Weights.Empty(dtype, width);
        _epsilon = epsilon;
        RegisterComponents();
    }

    /// <summary>Normalises the last dimension.</summary>
    /// <param name="x">Shape <c>[.., width]</c>.</param>
    /// <returns>The shape and the type of <paramref name="x"/>.</returns>
    public override Tensor forward(Tensor x)
    {
        Tensor wide = x.to(float32);
        Tensor normal = wide * rsqrt(wide.square().mean([-1], keepdim: true) + _epsilon);
        return _weight * normal.to(x.dtype);
    }
}
