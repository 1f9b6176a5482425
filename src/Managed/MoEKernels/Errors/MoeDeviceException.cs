namespace MoEKernels;

/// <summary>The device reported an error; the message holds its code.</summary>
public sealed class MoeDeviceException : MoeException
{
    /// <summary>Makes an exception.</summary>
    /// <param name="message">What happened, in the native library's words where it has any.</param>
    public MoeDeviceException(string message)
        : base(MoeStatus.Device, message)
    {
    }
}
