using System.Globalization;
using System.Runtime.InteropServices;

using Llama;

using MoEKernels;

const int Success = 0;
const int Failure = 1;
const int WrongUse = 2;
const int Interrupted = 130;

// Numbers are written the same way whatever the user's language.
CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
CultureInfo.DefaultThreadCurrentCulture = CultureInfo.InvariantCulture;

using CancellationTokenSource interruption = new();

// The first signal ends the run between two steps; a second one meets the default, which ends the process at once.
using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, OnSignal);
using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, OnSignal);

try
{
    switch (RequestParser.Parse(args, Console.Out))
    {
        case TinyOptions tiny:
            TinyCheckpoint.Write(tiny);
            Console.WriteLine($"a tiny {ModelConfigReader.NameOf(tiny.Family)} model with random weights is in {tiny.Folder}");
            break;
        case RunOptions run:
            new LlamaRun(run, Terminal.Create(), interruption.Token).Execute();
            break;
    }

    return Success;
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
    Console.Error.WriteLine("interrupted");
    return Interrupted;
}

void OnSignal(PosixSignalContext signal)
{
    signal.Cancel = !interruption.IsCancellationRequested;
    interruption.Cancel();
}
