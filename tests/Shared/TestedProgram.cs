using System.Diagnostics;
using System.Text;

namespace MoEKernels.TestPrograms;

/// <summary>A program as its users meet it: a process of its own, with its exit code and what it prints.</summary>
/// <param name="assembly">The path of the program's assembly.</param>
internal sealed class TestedProgram(string assembly)
{
    /// <summary>Runs the program to its end.</summary>
    /// <param name="arguments">Its command line.</param>
    public (int ExitCode, string Output, string Errors) Run(params string[] arguments)
    {
        using Process process = Start(arguments);
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, output, errors.Result);
    }

    /// <summary>Runs the program until a line of its output begins with a text, then asks it to end. It has to within half a minute.</summary>
    /// <remarks>By SIGTERM: where a shell runs the tests in the background, everything they start ignores the SIGINT of Ctrl-C.</remarks>
    /// <param name="begin">The text.</param>
    /// <param name="arguments">Its command line.</param>
    public (int ExitCode, string Errors) Interrupt(string begin, params string[] arguments)
    {
        if (!OperatingSystem.IsLinux() && !OperatingSystem.IsMacOS())
            Assert.Ignore("The test ends the program with 'kill -TERM', which Windows does not have.");

        using Process process = Start(arguments);
        Task<string> errors = process.StandardError.ReadToEndAsync();
        while (process.StandardOutput.ReadLine() is { } line && !line.StartsWith(begin, StringComparison.Ordinal))
        {
        }

        Process.Start("kill", ["-TERM", $"{process.Id}"]).WaitForExit();
        bool ended = process.WaitForExit(TimeSpan.FromSeconds(30));
        if (!ended)
            process.Kill();
        Assert.That(ended, Is.True, "ended after the interrupt");
        return (process.ExitCode, errors.Result);
    }

    private Process Start(string[] arguments) => Process.Start(
        new ProcessStartInfo("dotnet", [assembly, .. arguments])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            StandardOutputEncoding = Encoding.UTF8,
        })!;
}
