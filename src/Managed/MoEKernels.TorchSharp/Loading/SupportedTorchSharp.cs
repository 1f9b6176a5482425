namespace MoEKernels.TorchSharp.Loading;

/// <summary>
/// The TorchSharp releases this assembly was written for. Custom autograd nodes and data pointers go through entry points
/// that TorchSharp does not promise to keep, so another release is refused instead of tried.
/// </summary>
internal static class SupportedTorchSharp
{
    /// <summary>The first release that works.</summary>
    public static Version Minimum { get; } = new(0, 107, 0);

    /// <summary>The first release that is not supported any more.</summary>
    public static Version Limit { get; } = new(0, 108);

    /// <summary>Whether autograd nodes of our own were tried with this release: they use more entry points than the rest.</summary>
    public static bool HasTriedNodes(Version actual) => actual.Major == 0 && actual.Minor == 107 && actual.Build == 0;

    /// <summary>Throws unless <paramref name="actual"/> is one of the supported releases.</summary>
    /// <exception cref="NotSupportedException">It is not.</exception>
    public static void Check(Version? actual)
    {
        if (actual is null || actual < Minimum || actual >= Limit)
        {
            throw new NotSupportedException(
                $"MoEKernels.TorchSharp supports TorchSharp from {Minimum} up to, but not including, {Limit}; this application"
                + $" loaded TorchSharp {actual?.ToString() ?? "without a version"}. Reference TorchSharp {Minimum}.");
        }
    }
}
