namespace MoEKernels.TorchSharp.Loading;

/// <summary>TorchSharp's native libraries cannot be loaded; the message names the cause and what was tried.</summary>
public sealed class TorchSharpLoadException : DllNotFoundException
{
    /// <summary>Creates the exception without a message.</summary>
    public TorchSharpLoadException()
    {
    }

    /// <summary>Creates the exception with a message.</summary>
    /// <param name="message">What could not be loaded and why.</param>
    public TorchSharpLoadException(string message)
        : base(message)
    {
    }

    /// <summary>Creates the exception with a message and the error behind it.</summary>
    /// <param name="message">What could not be loaded and why.</param>
    /// <param name="innerException">The error that the loader or TorchSharp gave.</param>
    public TorchSharpLoadException(string message, Exception? innerException)
        : base(message, innerException)
    {
    }
}
