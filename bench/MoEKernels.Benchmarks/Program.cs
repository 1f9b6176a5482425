using MoEKernels.Benchmarks;
using MoEKernels.Benchmarks.Modes;

try
{
    ProgramArguments arguments = ProgramArguments.Parse(args);
    if (arguments.Mode == Mode.Help)
    {
        Console.WriteLine(ProgramArguments.Help);
        return 0;
    }
    Session.Start(arguments.Threads[0]);
    return arguments.Mode switch
    {
        Mode.Check => CheckMode.Run(),
        Mode.Quick => QuickMode.Run(arguments),
        Mode.Scaling => ScalingMode.Run(arguments),
        _ => BenchmarkDotNetMode.Run(arguments.BenchmarkDotNetArguments),
    };
}
catch (UsageException e)
{
    Console.Error.WriteLine($"MoEKernels.Benchmarks: {e.Message}");
    return 2;
}
