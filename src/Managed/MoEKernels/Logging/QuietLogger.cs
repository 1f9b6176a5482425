using Microsoft.Extensions.Logging;

namespace MoEKernels.Logging;

/// <summary>
/// Keeps the exceptions of an application's logger to itself: what is logged is a remark on work that succeeded, and it may
/// be made inside a native callback, where an exception would end the process.
/// </summary>
internal sealed class QuietLogger(ILogger inner) : ILogger
{
    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel)
    {
        try
        {
            return inner.IsEnabled(logLevel);
        }
        catch (Exception)
        {
            return false;
        }
    }

    public void Log<TState>(
        LogLevel logLevel, EventId eventId, TState state, Exception? exception,
        Func<TState, Exception?, string> formatter)
    {
        try
        {
            inner.Log(logLevel, eventId, state, exception, formatter);
        }
        catch (Exception)
        {
            // A logger that fails has nowhere to say so.
        }
    }
}
