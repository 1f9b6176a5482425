namespace MoEKernels;

/// <summary>A call with <see cref="CallFlags.Strict"/> met a NaN score; nothing was written.</summary>
public sealed class MoeNumericException : MoeException
{
    /// <summary>Makes an exception.</summary>
    /// <param name="message">What happened, in the native library's words where it has any.</param>
    public MoeNumericException(string message)
        : base(MoeStatus.Numeric, message)
    {
    }
}
