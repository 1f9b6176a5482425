using System.Globalization;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>What this assembly does as a program: run its own tests, or what <see cref="ChildProcess"/> needs.</summary>
internal static class Program
{
    public const string Misuse = "misuse";
    public const string Memory = "memory";
    public const string Activations = "activations";

    /// <summary>Before the other arguments: keep to TorchSharp's public autograd functions.</summary>
    public const string PublicAutograd = "public-autograd";

    private const string Tests = "test";

    public static int Main(string[] arguments)
    {
        if (arguments is [Tests, ..])
            return TestPrograms.TestRun.Run(arguments.ElementAtOrDefault(1));
        // One thread: neither the outcome nor the memory depends on it, and it waits for nobody on a busy machine.
        set_num_threads(1);
        if (arguments is [PublicAutograd, ..])
        {
            AppContext.SetSwitch(GraphFunction.PublicOnlySwitch, true);
            arguments = arguments[1..];
        }
        switch (arguments)
        {
            case [Misuse, var scenario]:
                MisuseScenarios.Run(scenario);
                return 0;
            case [Memory, var workload, var steps]:
                Console.WriteLine(MemoryProgram.MeasureGrowth(Enum.Parse<Workload>(workload), int.Parse(steps, CultureInfo.InvariantCulture)));
                return 0;
            case [Activations, var recompute]:
                Console.WriteLine(MemoryProgram.MeasureActivations(bool.Parse(recompute)));
                return 0;
            default:
                Console.Error.WriteLine(
                    $"Expected '{Tests} [category]', or [{PublicAutograd}] and '{Misuse} <scenario>', '{Memory} <workload> <steps>' or '{Activations} <recompute>'.");
                return 2;
        }
    }
}
