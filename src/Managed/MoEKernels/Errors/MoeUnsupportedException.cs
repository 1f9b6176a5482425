namespace MoEKernels;

/// <summary>What was asked for is legal but not offered by this backend or build; nothing was written.</summary>
public sealed class MoeUnsupportedException : MoeException
{
    /// <summary>Makes an exception.</summary>
    /// <param name="message">What happened, in the native library's words where it has any.</param>
    public MoeUnsupportedException(string message)
        : base(MoeStatus.Unsupported, message)
    {
    }
}
