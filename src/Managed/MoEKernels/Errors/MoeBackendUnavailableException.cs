namespace MoEKernels;

/// <summary>
/// A backend cannot be used: its library is missing or does not fit, or there is no device. The message says which and
/// why.
/// </summary>
public sealed class MoeBackendUnavailableException : MoeException
{
    /// <summary>Makes an exception.</summary>
    /// <param name="message">What happened, in the native library's words where it has any.</param>
    public MoeBackendUnavailableException(string message)
        : base(MoeStatus.BackendUnavailable, message)
    {
    }
}
