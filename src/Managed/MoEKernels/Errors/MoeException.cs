namespace MoEKernels;

/// <summary>
/// A native call failed, or the native library cannot be used. Wrong arguments are no such failure: they surface as
/// <see cref="ArgumentException"/>.
/// </summary>
public class MoeException : Exception
{
    /// <summary>Makes an exception.</summary>
    /// <param name="status">What kind of failure.</param>
    /// <param name="message">What happened, in the native library's words where it has any.</param>
    /// <param name="innerException">The cause, if another exception.</param>
    public MoeException(MoeStatus status, string message, Exception? innerException = null)
        : base(message, innerException) => Status = status;

    /// <summary>What kind of failure.</summary>
    public MoeStatus Status { get; }
}
