namespace Samples;

/// <summary>Something only the user can put right; the message is the one line that is shown.</summary>
internal sealed class UserException : Exception
{
    public UserException(string message)
        : base(message)
    {
    }

    public UserException(string message, Exception innerException)
        : base(message, innerException)
    {
    }
}
