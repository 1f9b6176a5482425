using System.Diagnostics;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>Misuse ends in a managed exception, never in the end of the process. Each scenario has a process of its own.</summary>
public sealed class MisuseTests
{
    [TestCaseSource(typeof(MisuseScenarios), nameof(MisuseScenarios.Names))]
    public void Misuse_EndsInAManagedException(string scenario)
    {
        (int exitCode, string output) = Run(scenario);
        Assert.That(exitCode, Is.Zero, output);
        Assert.That(output, Does.Contain(MisuseScenarios.Passed));
    }

    [Test]
    public void UnguardedBackward_EndsTheProcess_SoTheHarnessNotices()
    {
        (int exitCode, string output) = Run(nameof(MisuseScenarios.UnguardedBackwardThrows));
        Assert.That(exitCode, Is.Not.Zero, output);
        Assert.That(output, Does.Not.Contain(MisuseScenarios.Passed));
    }

    private static (int ExitCode, string Output) Run(string scenario)
    {
        var start = new ProcessStartInfo(Environment.ProcessPath is { } path && Path.GetFileNameWithoutExtension(path) == "dotnet" ? path : "dotnet")
        {
            ArgumentList = { "exec", typeof(MisuseScenarios).Assembly.Location, scenario },
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        // An abort shall leave neither a core file nor a minute of dump writing behind.
        start.Environment["DOTNET_DbgEnableMiniDump"] = "0";
        using Process process = Process.Start(start)!;
        Task<string> error = process.StandardError.ReadToEndAsync();
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        if (!process.WaitForExit(120_000))
        {
            process.Kill(entireProcessTree: true);
            Assert.Fail($"{scenario} did not end within 120 s.");
        }
        return (process.ExitCode, output.Result + error.Result);
    }
}
