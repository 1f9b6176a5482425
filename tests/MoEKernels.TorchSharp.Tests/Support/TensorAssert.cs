using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

internal static class TensorAssert
{
    /// <summary>|got - expected| at most absolute + relative |expected|, everywhere; NaN equals nothing.</summary>
    public static void AreClose(Tensor? got, Tensor? expected, double relative, double absolute, string what = "tensor")
    {
        Assert.That(got is null, Is.EqualTo(expected is null), $"{what}: one of them is missing");
        if (got is null || expected is null)
            return;
        using var scope = NewDisposeScope();
        Assert.That(got.shape, Is.EqualTo(expected.shape), $"{what}: shape");
        if (got.numel() == 0)
            return;
        Tensor g = got.detach().to(ScalarType.Float64);
        Tensor e = expected.detach().to(ScalarType.Float64);
        Tensor excess = (g - e).abs() - (e.abs() * relative + absolute);
        double worst = excess.max().item<double>();
        if (!(worst <= 0))
        {
            long at = excess.flatten().argmax().item<long>();
            Assert.Fail($"{what}: element {at} is {g.flatten()[at].item<double>():R}, expected {e.flatten()[at].item<double>():R} (relative {relative}, absolute {absolute})");
        }
    }

    public static void AreEqual(Tensor got, Tensor expected, string what = "tensor") => AreClose(got, expected, 0, 0, what);

    /// <summary>Relative to the largest expected value: for sums whose single terms cancel.</summary>
    public static void AreCloseToScale(Tensor? got, Tensor? expected, double tolerance, string what = "tensor")
    {
        double scale = 0;
        if (expected is not null && expected.numel() > 0)
        {
            using var scope = NewDisposeScope();
            scale = expected.detach().to(ScalarType.Float64).abs().max().item<double>();
        }
        AreClose(got, expected, 0, tolerance * Math.Max(scale, 1e-6), what);
    }
}
