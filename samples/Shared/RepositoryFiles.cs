using System.Diagnostics;
using System.Text;

namespace Samples;

/// <summary>The default data: this repository's own hand-written files, by language.</summary>
internal static class RepositoryFiles
{
    private const string Marker = "MoEKernels.sln";

    /// <summary>The domains and the endings of their files.</summary>
    private static readonly (string Domain, string[] Endings)[] Domains =
    [
        ("C#", [".cs"]),
        ("C++/CUDA", [".cpp", ".h", ".hpp", ".cu", ".cuh"]),
        ("Markdown", [".md"]),
    ];

    /// <summary>The files of every default domain.</summary>
    /// <param name="instead">The option that names other text, for the message when there is no repository.</param>
    /// <exception cref="UserException">The repository is not there.</exception>
    public static IReadOnlyList<(string Domain, IReadOnlyList<TextFile> Files)> Find(string instead)
    {
        string root = FindRoot(AppContext.BaseDirectory) ?? FindRoot(Environment.CurrentDirectory)
            ?? throw new UserException(
                $"the default data is the repository this sample came with, but no folder above holds {Marker}; give {instead}");

        // Tracked files are what people wrote. Without git, or in an unpacked archive, the ignore rules find nearly the same.
        IReadOnlyList<TextFile> files = Tracked(root) ?? FileWalk.Below(root);
        return [.. Domains.Select(domain => (
            domain.Domain,
            (IReadOnlyList<TextFile>)[.. files.Where(file => domain.Endings.Any(ending => IsHandWritten(file.Name, ending)))]))];
    }

    private static bool IsHandWritten(string name, string ending) =>
        name.EndsWith(ending, StringComparison.OrdinalIgnoreCase)
        && !name.EndsWith($".g{ending}", StringComparison.OrdinalIgnoreCase);

    private static string? FindRoot(string folder)
    {
        for (DirectoryInfo? parent = new(folder); parent is not null; parent = parent.Parent)
        {
            if (File.Exists(Path.Combine(parent.FullName, Marker)))
                return parent.FullName;
        }

        return null;
    }

    /// <summary>What git tracks below <paramref name="root"/>, or null where there is no git or no repository.</summary>
    private static List<TextFile>? Tracked(string root)
    {
        // A .git folder, or the file of that name in a linked work tree; otherwise git might answer for a repository further up.
        if (!Path.Exists(Path.Combine(root, ".git")))
            return null;

        ProcessStartInfo git = new("git", ["ls-files", "-z"])
        {
            WorkingDirectory = root,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            StandardOutputEncoding = Encoding.UTF8,
        };
        try
        {
            using Process process = Process.Start(git)!;
            process.ErrorDataReceived += (_, _) => { };
            process.BeginErrorReadLine();
            string output = process.StandardOutput.ReadToEnd();
            process.WaitForExit();
            if (process.ExitCode != 0)
                return null;

            return [.. output.Split('\0', StringSplitOptions.RemoveEmptyEntries)
                .Select(name => new TextFile(name, Path.Combine(root, name)))
                .Where(file => File.Exists(file.Path))
                .OrderBy(file => file.Name, StringComparer.Ordinal)];
        }
        catch (System.ComponentModel.Win32Exception)
        {
            // git is not installed.
            return null;
        }
    }
}
