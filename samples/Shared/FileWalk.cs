namespace Samples;

/// <summary>Finds the files below a folder, without what tools put there.</summary>
internal static class FileWalk
{
    /// <summary>Folders that hold what a build, a package manager or an editor wrote.</summary>
    private static readonly HashSet<string> IgnoredFolders = new(StringComparer.OrdinalIgnoreCase)
    {
        "bin", "obj", "out", "build", "artifacts", "node_modules", "third_party", "TestResults", "BenchmarkDotNet.Artifacts",
    };

    /// <summary>All files below <paramref name="root"/> in ordinal order of their names.</summary>
    /// <param name="root">The folder to walk.</param>
    public static IReadOnlyList<TextFile> Below(string root)
    {
        List<TextFile> files = [];
        Walk(new DirectoryInfo(root), prefix: "", files);
        files.Sort((a, b) => string.CompareOrdinal(a.Name, b.Name));
        return files;
    }

    private static void Walk(DirectoryInfo folder, string prefix, List<TextFile> files)
    {
        foreach (FileSystemInfo entry in folder.EnumerateFileSystemInfos())
        {
            // Dot files are settings and caches; a link may lead out of the folder or back into it.
            if (entry.Name.StartsWith('.') || entry.LinkTarget is not null)
                continue;

            if (entry is DirectoryInfo child)
            {
                if (!IgnoredFolders.Contains(child.Name) && !child.Name.StartsWith("build-", StringComparison.Ordinal))
                    Walk(child, $"{prefix}{child.Name}/", files);
            }
            else
            {
                files.Add(new TextFile(prefix + entry.Name, entry.FullName));
            }
        }
    }
}
