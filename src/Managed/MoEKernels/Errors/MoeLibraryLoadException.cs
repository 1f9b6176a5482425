namespace MoEKernels;

/// <summary>The native library could not be loaded, or is not the one this assembly was built for.</summary>
public sealed class MoeLibraryLoadException : MoeException
{
    /// <summary>Makes an exception whose message ends with the trace.</summary>
    /// <param name="message">What happened and what to do.</param>
    /// <param name="trace">Each step taken to find the library and its outcome, in order.</param>
    /// <param name="innerException">The cause, if another exception.</param>
    public MoeLibraryLoadException(string message, IReadOnlyList<string> trace, Exception? innerException = null)
        : base(MoeStatus.BackendUnavailable, Compose(message, trace), innerException)
    {
        Trace = trace;
        ShortMessage = message;
    }

    /// <summary>Each step taken to find the library and its outcome, in order.</summary>
    public IReadOnlyList<string> Trace { get; }

    /// <summary>The message without the trace.</summary>
    internal string ShortMessage { get; }

    private static string Compose(string message, IReadOnlyList<string> trace)
    {
        ArgumentNullException.ThrowIfNull(trace);
        return trace.Count == 0 ? message : message + Environment.NewLine + "Load trace:" + Environment.NewLine + "  "
            + string.Join(Environment.NewLine + "  ", trace);
    }
}
