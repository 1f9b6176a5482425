using System.Runtime.InteropServices;

using FineTune;

using MoEKernels;

using Spectre.Console;

const int Success = 0;
const int Failure = 1;
const int WrongUse = 2;
const int Interrupted = 130;

using CancellationTokenSource interruption = new();

// The first signal ends the run between two steps; a second one meets the default, which ends the process at once.
using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, OnSignal);
using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, OnSignal);

try
{
    if (OptionsParser.Parse(args, Console.Out) is not { } options)
        return Success;

    IAnsiConsole console = Terminal.Create();
    RunResult result = new FineTuneRun(options, console, interruption.Token).Execute();
    return result.Adapters.All(adapter => adapter.ReloadIsFaithful) ? Success : Failure;
}
catch (UserException problem)
{
    Console.Error.WriteLine($"error: {problem.Message}");
    return WrongUse;
}
catch (MoeException problem)
{
    Console.Error.WriteLine($"error: {problem.Message}");
    return Failure;
}
catch (OperationCanceledException)
{
    Console.Error.WriteLine("interrupted; files that were complete by now are kept");
    return Interrupted;
}

void OnSignal(PosixSignalContext signal)
{
    signal.Cancel = !interruption.IsCancellationRequested;
    interruption.Cancel();
}
