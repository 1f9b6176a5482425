namespace MoEKernels.Benchmarks.Modes;

internal static class OutputFolder
{
    /// <summary>Makes a folder and tries whether it takes files.</summary>
    /// <param name="option">The option that named it, for errors.</param>
    /// <param name="folder">The folder; null for none.</param>
    /// <exception cref="UsageException">It cannot be made, or refuses files.</exception>
    public static void Create(string option, string? folder)
    {
        if (folder is null)
            return;
        try
        {
            Directory.CreateDirectory(folder);
            // A folder that exists may still refuse files.
            string probe = Path.Combine(folder, Path.GetRandomFileName());
            File.Create(probe, bufferSize: 1, FileOptions.DeleteOnClose).Dispose();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            throw new UsageException($"{option} {folder}: {e.Message}");
        }
    }
}
