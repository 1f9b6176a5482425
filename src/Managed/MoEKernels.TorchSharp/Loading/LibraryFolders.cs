using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;

namespace MoEKernels.TorchSharp.Loading;

/// <summary>Where a .NET application keeps its native libraries.</summary>
internal static class LibraryFolders
{
    /// <summary>The existing folders to look in, in the order of the runtime's own search, without duplicates.</summary>
    [UnconditionalSuppressMessage("SingleFile", "IL3000", Justification = "An empty location is left out; the base directory covers it.")]
    public static IReadOnlyList<string> All()
    {
        string native = Path.Combine(
            "runtimes", $"linux-{RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant()}", "native");

        // Framework-dependent applications list their deps.json folders here; single-file ones the folder they unpack to.
        var folders = new List<string>(
            (AppContext.GetData("NATIVE_DLL_SEARCH_DIRECTORIES") as string ?? "")
                .Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries));

        foreach (string? home in new[] { AppContext.BaseDirectory, Path.GetDirectoryName(typeof(LibraryFolders).Assembly.Location) })
        {
            if (string.IsNullOrEmpty(home)) continue;
            folders.Add(home);
            folders.Add(Path.Combine(home, native));
        }

        return [.. folders.Select(Path.TrimEndingDirectorySeparator).Distinct().Where(Directory.Exists)];
    }

    /// <summary>The first <paramref name="folders"/> member that holds <paramref name="fileName"/>, as a full path, or null.</summary>
    public static string? Find(IEnumerable<string> folders, string fileName)
        => folders.Select(folder => Path.Combine(folder, fileName)).FirstOrDefault(File.Exists);
}
