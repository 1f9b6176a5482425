using System.Globalization;
using System.Runtime.InteropServices;

using MoEKernels;

namespace Samples;

/// <summary>What every sample's <c>Main</c> does: exit codes, one line for an error, and an end between two steps when it is interrupted.</summary>
internal static class SampleProgram
{
    /// <summary>Everything was done.</summary>
    public const int Success = 0;

    /// <summary>The library failed, or a check of the sample's own did.</summary>
    public const int Failure = 1;

    private const int WrongUse = 2;
    private const int Interrupted = 130;

    /// <summary>Runs a sample. Numbers are written the same way whatever the user's language.</summary>
    /// <param name="run">The sample; it is told when it shall stop, and returns the exit code.</param>
    /// <param name="whenInterrupted">The line for a run that was stopped.</param>
    /// <returns>What <paramref name="run"/> returned; 1 if the library failed, 2 for wrong use, 130 if the run was interrupted.</returns>
    public static int Run(Func<CancellationToken, int> run, string whenInterrupted)
    {
        CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
        CultureInfo.DefaultThreadCurrentCulture = CultureInfo.InvariantCulture;

        using CancellationTokenSource interruption = new();

        // The first signal ends the run between two steps; a second one meets the default, which ends the process at once.
        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, OnSignal);
        using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, OnSignal);
        try
        {
            return run(interruption.Token);
        }
        catch (UserException problem)
        {
            Console.Error.WriteLine($"error: {problem.Message.ReplaceLineEndings(" ")}");
            return WrongUse;
        }
        catch (MoeException problem)
        {
            Console.Error.WriteLine($"error: {problem.Message}");
            return Failure;
        }
        catch (OperationCanceledException)
        {
            Console.Error.WriteLine(whenInterrupted);
            return Interrupted;
        }

        void OnSignal(PosixSignalContext signal)
        {
            signal.Cancel = !interruption.IsCancellationRequested;
            interruption.Cancel();
        }
    }
}
