namespace FineTune;

/// <summary>The folder a run writes to. A file appears in it whole or not at all.</summary>
internal sealed class OutputFolder
{
    private readonly List<string> _written = [];

    private OutputFolder(string path) => Path = path;

    /// <summary>The full path.</summary>
    public string Path { get; }

    /// <summary>The full paths of the files written so far, in order.</summary>
    public IReadOnlyList<string> Written => _written;

    /// <summary>Makes the folder, and makes sure that files can be written to it.</summary>
    /// <param name="path">The folder, made with its parents when it does not exist.</param>
    /// <exception cref="UserException">It cannot be written to.</exception>
    public static OutputFolder Open(string path)
    {
        try
        {
            string full = System.IO.Path.GetFullPath(path);
            Directory.CreateDirectory(full);
            string probe = Temporary(System.IO.Path.Combine(full, "probe"));
            File.WriteAllBytes(probe, []);
            File.Delete(probe);
            return new OutputFolder(full);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw new UserException($"cannot write to the output folder '{path}': {failure.Message}", failure);
        }
    }

    /// <summary>Writes a file under a temporary name and then gives it its own, so that an interruption leaves nothing half-written.</summary>
    /// <param name="name">The file's name.</param>
    /// <param name="write">Writes the file at the path it is given.</param>
    /// <returns>The file's full path.</returns>
    public string Write(string name, Action<string> write)
    {
        string path = System.IO.Path.Combine(Path, name);
        string temporary = Temporary(path);
        try
        {
            write(temporary);
            File.Move(temporary, path, overwrite: true);
            _written.Add(path);
            return path;
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new UserException($"cannot write '{path}': {failure.Message}", failure);
        }
        finally
        {
            File.Delete(temporary);
        }
    }

    /// <summary>Keeps the extension, since some writers choose the format by it.</summary>
    private static string Temporary(string path)
    {
        string folder = System.IO.Path.GetDirectoryName(path)!;
        return System.IO.Path.Combine(folder, $".{Environment.ProcessId}-{System.IO.Path.GetFileName(path)}");
    }
}
