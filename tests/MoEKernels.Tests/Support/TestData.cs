namespace MoEKernels.Tests;

/// <summary>Reproducible inputs and conversions between the element types.</summary>
internal static class TestData
{
    /// <summary>Uniform values in [-1, 1).</summary>
    internal static double[] Uniform(int seed, long count)
    {
        Random random = new(seed);
        double[] values = new double[count];
        for (int i = 0; i < values.Length; i++)
            values[i] = random.NextDouble() * 2 - 1;
        return values;
    }

    /// <summary>Converts to a storage type, rounding once.</summary>
    internal static T[] To<T>(double[] values)
        where T : unmanaged => Array.ConvertAll(values, To<T>);

    internal static T To<T>(double value)
        where T : unmanaged
    {
        if (typeof(T) == typeof(double))
            return (T)(object)value;
        if (typeof(T) == typeof(float))
            return (T)(object)(float)value;
        if (typeof(T) == typeof(Half))
            return (T)(object)(Half)value;
        return (T)(object)BFloat16.FromSingle((float)value);
    }

    internal static double[] ToDouble<T>(ReadOnlySpan<T> values)
        where T : unmanaged
    {
        double[] result = new double[values.Length];
        for (int i = 0; i < result.Length; i++)
        {
            result[i] = values[i] switch
            {
                double value => value,
                float value => value,
                Half value => (double)value,
                BFloat16 value => value.ToSingle(),
                var other => throw new ArgumentException(other.GetType().Name),
            };
        }
        return result;
    }

    /// <summary>The values as the storage type holds them.</summary>
    internal static double[] Rounded<T>(double[] values)
        where T : unmanaged => ToDouble<T>(To<T>(values));

    /// <summary>Largest relative rounding error of one store.</summary>
    internal static double Epsilon<T>()
        where T : unmanaged =>
        typeof(T) == typeof(double) ? Math.ScaleB(1, -53) : typeof(T) == typeof(float) ? Math.ScaleB(1, -24)
        : typeof(T) == typeof(Half) ? Math.ScaleB(1, -11) : Math.ScaleB(1, -8);

    /// <summary>Poison: whoever reads it before writing shows.</summary>
    internal static T[] Poison<T>(long count)
        where T : unmanaged
    {
        T[] values = new T[count];
        Array.Fill(values, To<T>(double.NaN));
        return values;
    }

    /// <summary>Compares with a tolerance that is relative to the largest expected value.</summary>
    internal static void AssertClose(double[] actual, double[] expected, double tolerance, string what)
    {
        Assert.That(actual, Has.Length.EqualTo(expected.Length), what);
        double scale = expected.Length == 0 ? 1 : Math.Max(1e-30, expected.Max(Math.Abs));
        for (int i = 0; i < actual.Length; i++)
        {
            // Written so that a NaN fails.
            if (!(Math.Abs(actual[i] - expected[i]) <= tolerance * scale) && !actual[i].Equals(expected[i]))
                Assert.Fail($"{what}[{i}]: got {actual[i]:R}, expected {expected[i]:R} +- {tolerance * scale:R}");
        }
    }
}
