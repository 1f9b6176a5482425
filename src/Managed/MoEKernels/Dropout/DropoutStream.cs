using System.Diagnostics.CodeAnalysis;

namespace MoEKernels;

/// <summary>Independent streams of the dropout generator within one (seed, offset).</summary>
[SuppressMessage("Naming", "CA1711",
    Justification = "A stream of random numbers; the generator's literature has no other word.")]
public enum DropoutStream
{
    /// <summary>The mask on x.</summary>
    Input = 0,

    /// <summary>The mask on the core vector v of <see cref="CoreMerge"/>.</summary>
    Core = 1,
}
