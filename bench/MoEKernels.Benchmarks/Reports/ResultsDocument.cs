using MoEKernels.Benchmarks.Modes;

namespace MoEKernels.Benchmarks.Reports;

/// <summary>A Markdown file with a place for the latest results.</summary>
internal sealed class ResultsDocument
{
    private const string Start = "<!-- results -->";
    private const string End = "<!-- /results -->";

    private readonly string _path;

    /// <exception cref="UsageException">The file cannot be read or has no such place.</exception>
    public ResultsDocument(string path)
    {
        _path = path;
        Split();
    }

    public void Replace(string results)
    {
        (string before, string after) = Split();
        File.WriteAllText(_path, $"{before}{Start}\n\n{results}\n{End}{after}");
    }

    private (string Before, string After) Split()
    {
        string text;
        try
        {
            text = File.ReadAllText(_path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            throw new UsageException($"--document {_path}: {e.Message}");
        }
        int start = text.IndexOf(Start, StringComparison.Ordinal);
        int end = text.IndexOf(End, StringComparison.Ordinal);
        if (start < 0 || end < start)
            throw new UsageException($"--document {_path}: expected the lines {Start} and {End} around the results");
        return (text[..start], text[(end + End.Length)..]);
    }
}
