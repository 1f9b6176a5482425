namespace MoEKernels.Benchmarks.Modes;

/// <summary>What the user asked for cannot be done; the message is one line.</summary>
internal sealed class UsageException(string message) : Exception(message);
