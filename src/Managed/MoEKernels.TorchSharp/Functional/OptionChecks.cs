namespace MoEKernels.TorchSharp;

/// <summary>
/// Checks of plain numbers before autograd gets involved: a native error would be just as clear, but an exception inside a forward function
/// costs a node that is never freed.
/// </summary>
internal static class OptionChecks
{
    /// <summary>An error about one of several tensors that travel as one argument.</summary>
    public static ArgumentException Error(string message, string name) => new(message, name);

    public static void Probability(double value, string name)
    {
        if (!(value >= 0 && value < 1))
            throw new ArgumentOutOfRangeException(name, value, "Expected 0 <= p < 1.");
    }

    public static void NotNegative(double value, string name)
    {
        if (!(value >= 0 && double.IsFinite(value)))
            throw new ArgumentOutOfRangeException(name, value, "Expected a finite number of at least 0.");
    }

    public static void Finite(double value, string name)
    {
        if (!double.IsFinite(value))
            throw new ArgumentOutOfRangeException(name, value, "Expected a finite number.");
    }

    public static void Defined<T>(T value, string name)
        where T : struct, Enum
    {
        if (!Enum.IsDefined(value))
            throw new ArgumentOutOfRangeException(name, value, $"Expected a value of {typeof(T).Name}.");
    }

    public static void InRange(long value, long least, long most, string name)
    {
        if (value < least || value > most)
            throw new ArgumentOutOfRangeException(name, value, $"Expected {least} to {most}.");
    }
}
