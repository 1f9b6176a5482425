namespace MoEKernels;

/// <summary>What the native library says about itself.</summary>
public sealed record MoeBuildInfo
{
    private MoeBuildInfo(string text) => Text = text;

    /// <summary>Everything, as lines <c>key=value</c>.</summary>
    public string Text { get; }

    /// <summary>Version of the library.</summary>
    public string Version { get; private init; } = "";

    /// <summary>Source revision it was built from; may be empty.</summary>
    public string Commit { get; private init; } = "";

    /// <summary>Compiler and its version.</summary>
    public string Compiler { get; private init; } = "";

    /// <summary>"release" or "debug".</summary>
    public string Build { get; private init; } = "";

    /// <summary>Instruction sets compiled in, separated by commas.</summary>
    public string InstructionSets { get; private init; } = "";

    /// <summary>CUDA architectures of the companion library, separated by commas; empty without it.</summary>
    public string CudaArchitectures { get; private init; } = "";

    internal static MoeBuildInfo Parse(string text)
    {
        Dictionary<string, string> values = new(StringComparer.Ordinal);
        foreach (string line in text.Split('\n',
            StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries))
        {
            int equals = line.IndexOf('=', StringComparison.Ordinal);
            if (equals > 0)
                values[line[..equals]] = line[(equals + 1)..];
        }
        return new MoeBuildInfo(text)
        {
            Version = values.GetValueOrDefault("version", ""),
            Commit = values.GetValueOrDefault("commit", ""),
            Compiler = values.GetValueOrDefault("compiler", ""),
            Build = values.GetValueOrDefault("build", ""),
            InstructionSets = values.GetValueOrDefault("isa", ""),
            CudaArchitectures = values.GetValueOrDefault("sm", ""),
        };
    }
}
