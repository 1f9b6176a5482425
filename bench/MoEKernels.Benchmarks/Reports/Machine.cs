using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using BenchmarkDotNet.Environments;
using TorchSharp;

namespace MoEKernels.Benchmarks.Reports;

/// <summary>When, from what commit and on what something was measured.</summary>
internal sealed record Machine(DateTimeOffset Date, string Commit, IReadOnlyList<string> Lines)
{
    // What libtorch's threads and the C library's allocator read; it moves times by a factor.
    private static readonly string[] Variables =
    [
        "OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "MKL_NUM_THREADS", "GLIBC_TUNABLES",
        "DOTNET_TieredPGO",
    ];

    public static Machine Describe()
    {
        DateTimeOffset now = DateTimeOffset.UtcNow;
        string commit = Commitish();
        HostEnvironmentInfo host = HostEnvironmentInfo.GetCurrent();
        string variables = string.Join(", ", Variables
            .Select(name => (name, value: Environment.GetEnvironmentVariable(name)))
            .Where(entry => entry.value is not null)
            .Select(entry => $"{entry.name}={entry.value}"));
        return new Machine(now, commit,
        [
            string.Create(CultureInfo.InvariantCulture, $"{now:yyyy-MM-dd HH:mm} UTC, commit {commit}"),
            .. host.ToFormattedString().Skip(1).Select(line => line.Trim()),
            $"TorchSharp {typeof(torch).Assembly.GetName().Version?.ToString(3)}, libtorch {torch.__version__}",
            $"MoEKernels on {Session.Context.InstructionSet}, built by {MoeRuntime.BuildInfo.Compiler}",
            $"environment: {(variables.Length == 0 ? "nothing that matters is set" : variables)}",
        ]);
    }

    private static string Commitish()
    {
        if (Git("rev-parse --short=10 HEAD") is not { Length: > 0 } commit)
            return "unknown";
        return Git("status --porcelain --untracked-files=no") is { Length: 0 } ? commit : $"{commit}-dirty";
    }

    private static string? Git(string arguments)
    {
        try
        {
            using var process = Process.Start(new ProcessStartInfo("git", arguments)
            {
                WorkingDirectory = AppContext.BaseDirectory,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            })!;
            string output = process.StandardOutput.ReadToEnd();
            process.WaitForExit();
            return process.ExitCode == 0 ? output.Trim() : null;
        }
        catch (Win32Exception)
        {
            return null;
        }
    }
}
