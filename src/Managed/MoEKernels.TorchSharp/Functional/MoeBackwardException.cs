namespace MoEKernels.TorchSharp;

/// <summary>
/// A backward pass of one of this library's functions failed earlier. An exception cannot leave backward without ending the process, so the failure is
/// kept and thrown by the next call; the gradients of the failed function are missing.
/// </summary>
public sealed class MoeBackwardException : InvalidOperationException
{
    /// <summary>Makes an exception.</summary>
    /// <param name="message">What failed.</param>
    /// <param name="innerException">The failure itself.</param>
    public MoeBackwardException(string message, Exception? innerException = null)
        : base(message, innerException)
    {
    }
}
