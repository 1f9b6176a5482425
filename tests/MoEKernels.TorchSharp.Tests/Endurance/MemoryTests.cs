using System.Globalization;
using System.Text.RegularExpressions;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>Memory and tensor counts stay flat over many steps, each time in a process that has done nothing else.</summary>
public sealed partial class MemoryTests
{
    [Test]
    public void TrainingSteps_20000_StayFlat([Values] Workload workload, [Values] bool publicAutograd) =>
        AssertFlat(workload, 20_000, publicAutograd ? [Program.PublicAutograd] : []);

    [Test]
    [Explicit("Takes minutes: the long form of the test above, to be run by hand.")]
    public void TrainingSteps_100000_StayFlat([Values] Workload workload) => AssertFlat(workload, 100_000);

    [Test]
    public void TrainingSteps_WithoutScopes_LeaveNothingAfterCollection([Values] Workload workload)
    {
        (Action run, IDisposable owner) = MemoryProgram.Make(workload, useScopes: false);
        using (owner)
        {
            for (int i = 0; i < 50; i++)
                run();
            long before = CountAfterCollection();
            for (int i = 0; i < 300; i++)
                run();
            // What backward returned last stays rooted until the next one.
            Assert.That(CountAfterCollection(), Is.LessThanOrEqualTo(before + 2));
        }
    }

    private static void AssertFlat(Workload workload, int steps, params string[] options)
    {
        string[] arguments = [.. options, Program.Memory, workload.ToString(), steps.ToString(CultureInfo.InvariantCulture)];
        (int exitCode, string output) = ChildProcess.Run(arguments);
        Assert.That(exitCode, Is.Zero, output);
        Match match = Growth().Match(output);
        Assert.That(match.Success, output);
        Assert.That(int.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture), Is.Zero, "live tensors");
        // A lost activation per step would be 8 KiB, a lost node of the graph about 2 KiB.
        double perStep = 1024.0 * int.Parse(match.Groups[2].Value, CultureInfo.InvariantCulture) / steps;
        Assert.That(perStep, Is.LessThan(500), "bytes of growth per step");
    }

    private static long CountAfterCollection()
    {
        for (int i = 0; i < 4; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }
        return Tensor.TotalCount;
    }

    [GeneratedRegex(@"\((-?\d+), (-?\d+)\)")]
    private static partial Regex Growth();
}
