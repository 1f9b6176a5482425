namespace MoEKernels.BindingsGenerator;

/// <summary>What the command line asks for.</summary>
internal sealed record GeneratorOptions(string HeaderPath, string OutputPath, bool CheckOnly, bool ShowHelp)
{
    private const string DefaultHeader = "native/include/moekernels.h";
    private const string DefaultOutput = "bindings/Generated/NativeMethods.g.cs";

    internal const string Usage =
        $"""
        Writes the raw C# bindings of the C ABI.

          --header <path>   the C header             (default: {DefaultHeader})
          --output <path>   the C# file to write     (default: {DefaultOutput})
          --check           write nothing; exit code 1 when the file is not what the header gives
          --help            this text
        """;

    /// <summary>Reads the command line; paths left out are those of the repository this program was built in.</summary>
    /// <exception cref="GeneratorException">An option is unknown or lacks its value.</exception>
    internal static GeneratorOptions Parse(IReadOnlyList<string> arguments)
    {
        string? header = null;
        string? output = null;
        bool check = false;
        bool help = false;
        for (int i = 0; i < arguments.Count; i++)
        {
            switch (arguments[i])
            {
                case "--header":
                    header = ValueOf(arguments, ref i);
                    break;
                case "--output":
                    output = ValueOf(arguments, ref i);
                    break;
                case "--check":
                    check = true;
                    break;
                case "--help":
                    help = true;
                    break;
                default:
                    throw new GeneratorException($"unknown option '{arguments[i]}'; --help lists the known ones.");
            }
        }

        return new GeneratorOptions(
            Path.GetFullPath(header ?? InRepository(DefaultHeader)),
            Path.GetFullPath(output ?? InRepository(DefaultOutput)),
            check,
            help);
    }

    private static string ValueOf(IReadOnlyList<string> arguments, ref int index)
    {
        if (index + 1 == arguments.Count)
            throw new GeneratorException($"{arguments[index]} needs a path.");
        return arguments[++index];
    }

    private static string InRepository(string path)
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, DefaultHeader)))
                return Path.Combine(folder.FullName, path);
        }
        // Outside of a checkout the relative path at least makes a readable error message.
        return path;
    }
}
