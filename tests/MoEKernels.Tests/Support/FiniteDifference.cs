namespace MoEKernels.Tests;

/// <summary>Central differences of a scalar function in double precision.</summary>
internal static class FiniteDifference
{
    internal static double[] Gradient(double[] at, Func<double[], double> function)
    {
        const double Step = 1e-5;
        double[] point = (double[])at.Clone();
        double[] gradient = new double[at.Length];
        for (int i = 0; i < at.Length; i++)
        {
            point[i] = at[i] + Step;
            double above = function(point);
            point[i] = at[i] - Step;
            double below = function(point);
            point[i] = at[i];
            gradient[i] = (above - below) / (2 * Step);
        }
        return gradient;
    }

    internal static double Dot(double[] left, double[] right)
    {
        double sum = 0;
        for (int i = 0; i < left.Length; i++)
            sum += left[i] * right[i];
        return sum;
    }
}
