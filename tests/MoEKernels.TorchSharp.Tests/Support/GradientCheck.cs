using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>Gradients by backward, and by central differences in double precision.</summary>
internal static class GradientCheck
{
    /// <summary>Gradients of sum(w * f(inputs)) with fixed weights w, for the inputs that require one; null for the others.</summary>
    public static Tensor?[] ByBackward(Func<Tensor?[], Tensor> function, Tensor?[] inputs, ulong seed = 1)
    {
        Tensor?[] leaves = [.. inputs.Select(t => t is { requires_grad: true } ? t.detach().clone().requires_grad_() : t)];
        Tensor loss = WeightedSum(function(leaves), seed);
        loss.backward();
        MoeFunctional.ThrowPendingBackwardError();
        return [.. leaves.Select(t => t is { requires_grad: true } ? t.grad : null)];
    }

    public static void AgainstDifferences(Func<Tensor?[], Tensor> function, Tensor?[] inputs, string[] names, double tolerance = 1e-6, int samples = 12)
    {
        Tensor?[] analytic = ByBackward(function, inputs);
        for (int i = 0; i < inputs.Length; i++)
        {
            if (inputs[i] is not { requires_grad: true } input)
                continue;
            Assert.That(analytic[i], Is.Not.Null, $"gradient of {names[i]}");
            long step = Math.Max(1, input.numel() / samples);
            for (long at = 0; at < input.numel(); at += step)
            {
                double numeric = Difference(function, inputs, i, at);
                double got = analytic[i]!.flatten()[at].item<double>();
                Assert.That(got, Is.EqualTo(numeric).Within(tolerance * Math.Max(1, Math.Abs(numeric))), $"d {names[i]}[{at}]");
            }
        }
    }

    public static Tensor WeightedSum(Tensor output, ulong seed)
    {
        using var generator = new Generator(seed, CPU);
        Tensor weights = randn(output.shape, dtype: ScalarType.Float64, generator: generator).to(output.dtype);
        return (output * weights).sum();
    }

    private static double Difference(Func<Tensor?[], Tensor> function, Tensor?[] inputs, int which, long at)
    {
        const double Step = 1e-5;
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        double At(double offset)
        {
            Tensor?[] moved = [.. inputs];
            Tensor copy = inputs[which]!.detach().clone();
            copy.view(-1)[at] += offset;
            moved[which] = copy;
            return WeightedSum(function(moved), seed: 1).item<double>();
        }
        return (At(Step) - At(-Step)) / (2 * Step);
    }
}
