namespace MoEKernels.TorchSharp.Tests;

/// <summary>Misuse ends in a managed exception, never in the end of the process. Each scenario has a process of its own.</summary>
public sealed class MisuseTests
{
    [TestCaseSource(typeof(MisuseScenarios), nameof(MisuseScenarios.Names))]
    public void Misuse_EndsInAManagedException(string scenario)
    {
        (int exitCode, string output) = ChildProcess.Run(Program.Misuse, scenario);
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
