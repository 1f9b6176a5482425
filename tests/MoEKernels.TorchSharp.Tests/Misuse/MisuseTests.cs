namespace MoEKernels.TorchSharp.Tests;

/// <summary>Misuse ends in a managed exception, never in the end of the process. Each scenario has a process of its own.</summary>
public sealed class MisuseTests
{
    [Test]
    public void Misuse_EndsInAManagedException(
        [ValueSource(typeof(MisuseScenarios), nameof(MisuseScenarios.Names))] string scenario, [Values] bool publicAutograd)
    {
        (int exitCode, string output) = ChildProcess.Run([.. publicAutograd ? (string[])[Program.PublicAutograd] : [], Program.Misuse, scenario]);
        Assert.That(exitCode, Is.Zero, output);
        Assert.That(output, Does.Contain(MisuseScenarios.Passed));
    }

    [Test]
    public void UnguardedBackward_EndsTheProcess_SoTheHarnessNotices()
    {
        (int exitCode, string output) = ChildProcess.Run(Program.Misuse, nameof(MisuseScenarios.UnguardedBackwardThrows));
        Assert.That(exitCode, Is.Not.Zero, output);
        Assert.That(output, Does.Not.Contain(MisuseScenarios.Passed));
    }
}
