using System.Reflection;
using System.Runtime.InteropServices;

using MoEKernels;

using static TorchSharp.torch;

namespace FineTune;

/// <summary>Where a run took place and with what: numbers mean little without it.</summary>
internal sealed record Machine(
    string Processor,
    int Cores,
    string OperatingSystem,
    string DotNet,
    string TorchSharp,
    string MoEKernels,
    string NativeLibrary,
    string Backend)
{
    /// <summary>Describes this machine.</summary>
    public static Machine Describe()
    {
        return new Machine(
            ProcessorName(),
            Environment.ProcessorCount,
            RuntimeInformation.OSDescription,
            RuntimeInformation.FrameworkDescription,
            VersionOf(typeof(Tensor)),
            VersionOf(typeof(MoeRuntime)),
            MoeRuntime.BuildInfo.Text,
            MoeRuntime.DefaultBackend.Device.ToString());
    }

    private static string VersionOf(Type type) =>
        type.Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion
        ?? type.Assembly.GetName().Version?.ToString()
        ?? "unknown";

    private static string ProcessorName()
    {
        const string linuxInfo = "/proc/cpuinfo";
        string? name = File.Exists(linuxInfo)
            ? File.ReadLines(linuxInfo).FirstOrDefault(line => line.StartsWith("model name", StringComparison.Ordinal))?.Split(':', 2)[1].Trim()
            : Environment.GetEnvironmentVariable("PROCESSOR_IDENTIFIER");
        return name ?? RuntimeInformation.ProcessArchitecture.ToString();
    }
}
