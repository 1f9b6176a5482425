namespace Llama;

/// <summary>Reads the text that is trained on.</summary>
internal static class TextSource
{
    /// <summary>Reads files, or the repository's own text where none are named.</summary>
    /// <param name="paths">Files, or folders that are read with everything below them.</param>
    /// <returns>The texts, in order.</returns>
    /// <exception cref="UserException">A path does not exist or cannot be read, or none of the files is text.</exception>
    public static IReadOnlyList<string> Read(IReadOnlyList<string> paths)
    {
        IReadOnlyList<TextFile> files = paths.Count == 0
            ? [.. RepositoryFiles.Find("--text file").SelectMany(domain => domain.Files)]
            : [.. paths.SelectMany(FilesOf)];
        List<string> texts = [];
        foreach (TextFile file in files)
        {
            try
            {
                string text = File.ReadAllText(file.Path);
                bool isText = text.Length > 0 && !text.Contains('\0', StringComparison.Ordinal);
                if (isText)
                    texts.Add(text);
            }
            catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
            {
                throw new UserException($"cannot read '{file.Path}': {failure.Message}", failure);
            }
        }

        return texts.Count > 0 ? texts : throw new UserException($"none of the {files.Count} file(s) of --text is text");
    }

    private static IReadOnlyList<TextFile> FilesOf(string path)
    {
        if (Directory.Exists(path))
            return FileWalk.Below(path);
        return File.Exists(path)
            ? [new TextFile(Path.GetFileName(path), path)]
            : throw new UserException($"--text: '{path}' does not exist");
    }
}
