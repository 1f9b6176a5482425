using System.Diagnostics;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>Runs this assembly as a program of its own: what may end the process, and what needs a process that nothing else has used.</summary>
internal static class ChildProcess
{
    public static (int ExitCode, string Output) Run(params string[] arguments)
    {
        var start = new ProcessStartInfo(Environment.ProcessPath is { } path && Path.GetFileNameWithoutExtension(path) == "dotnet" ? path : "dotnet")
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (string argument in (string[])["exec", typeof(ChildProcess).Assembly.Location, .. arguments])
            start.ArgumentList.Add(argument);
        // An abort shall leave neither a core file nor a minute of dump writing behind.
        start.Environment["DOTNET_DbgEnableMiniDump"] = "0";
        // A small young generation: what the collector has not looked at yet would hide what is lost.
        start.Environment["DOTNET_GCgen0size"] = "400000";
        using Process process = Process.Start(start)!;
        Task<string> error = process.StandardError.ReadToEndAsync();
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        if (!process.WaitForExit(TimeSpan.FromMinutes(10)))
        {
            process.Kill(entireProcessTree: true);
            Assert.Fail($"{string.Join(' ', arguments)} did not end within ten minutes.");
        }
        return (process.ExitCode, output.Result + error.Result);
    }
}
