using FineTune;

return SampleProgram.Run(Run, "interrupted; files that were complete by now are kept");

int Run(CancellationToken cancellation)
{
    if (OptionsParser.Parse(args, Console.Out) is not { } options)
        return SampleProgram.Success;

    RunResult result = new FineTuneRun(options, Terminal.Create(), cancellation).Execute();
    return result.Adapters.All(adapter => adapter.ReloadIsFaithful) ? SampleProgram.Success : SampleProgram.Failure;
}
