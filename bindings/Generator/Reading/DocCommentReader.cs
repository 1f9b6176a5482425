using System.Text.RegularExpressions;
using MoEKernels.BindingsGenerator.Model;

namespace MoEKernels.BindingsGenerator.Reading;

/// <summary>Takes a Doxygen comment apart: description, parameters, result.</summary>
internal sealed partial class DocCommentReader
{
    private readonly string _owner;
    private readonly List<DocBlock> _description = [];
    private readonly Dictionary<string, DocBlock> _parameters = new(StringComparer.Ordinal);
    private DocBlock? _returns;

    // The block being read and, unless it belongs to the description, where it goes.
    private readonly List<string> _block = [];
    private bool _isPreformatted;
    private Action<DocBlock>? _destination;

    private DocCommentReader(string owner) => _owner = owner;

    /// <summary>Reads a comment as it stands in the source, markers included.</summary>
    /// <param name="text">The comment's source text.</param>
    /// <param name="owner">The C name it belongs to.</param>
    /// <exception cref="GeneratorException">It uses a Doxygen command that is not supported.</exception>
    internal static DocComment Read(string text, string owner)
    {
        DocCommentReader reader = new(owner);
        foreach (string line in WithoutMarkers(text))
            reader.ReadLine(line);
        reader.Flush();
        return new DocComment(owner, reader._description, reader._parameters, reader._returns);
    }

    private static IEnumerable<string> WithoutMarkers(string text)
    {
        bool isStarred = text.Split('\n').Skip(1).Any(line => line.TrimStart() is ['*', not '/', ..] or "*");
        foreach (string line in text.Replace("\r", "", StringComparison.Ordinal).Split('\n'))
        {
            string content = End().Replace(Start().Replace(line, ""), "").TrimEnd();
            // Without leading stars the indentation is that of the source, so it says nothing.
            yield return isStarred ? content : content.TrimStart();
        }
    }

    private void ReadLine(string line)
    {
        Match command = BlockCommand().Match(line);
        ReadText(command.Success ? line[..command.Index].TrimEnd() : line);
        if (!command.Success)
            return;
        Flush();
        string rest = line[(command.Index + command.Length)..].TrimStart();
        _destination = DestinationOf(command.Groups["name"].Value, ref rest);
        if (rest.Length > 0)
            ReadLine(rest);
    }

    private void ReadText(string line)
    {
        // In the description, indented lines are formulas. After a command, indentation only continues a line.
        bool isPreformatted = _destination is null && line.StartsWith("  ", StringComparison.Ordinal);
        if (line.Length == 0 || isPreformatted != _isPreformatted)
            Flush();
        if (line.Length == 0)
            return;
        _isPreformatted = isPreformatted;
        _block.Add(isPreformatted ? line : line.Trim());
    }

    private Action<DocBlock>? DestinationOf(string command, ref string rest)
    {
        switch (command)
        {
            case "brief":
                return null;
            case "param":
                string parameter = FirstWord().Match(rest).Value;
                if (parameter.Length == 0)
                    throw new GeneratorException($"{_owner}: a @param in its comment names no parameter.");
                rest = rest[parameter.Length..].TrimStart();
                return block => _parameters[parameter] = block;
            case "return" or "returns":
                return block => _returns = block;
            default:
                throw new GeneratorException(
                    $"{_owner}: its comment uses @{command}, expected @brief, @param, @return, @c, @p or @ref.");
        }
    }

    private void Flush()
    {
        if (_block.Count > 0)
            (_destination ?? _description.Add)(new DocBlock(_isPreformatted, [.. _block]));
        _block.Clear();
        _isPreformatted = false;
        _destination = null;
    }

    [GeneratedRegex(@"^\s*(/\*[*!]+<?|//[/!]<?|\*(?!/))? ?")]
    private static partial Regex Start();

    [GeneratedRegex(@"\s*\*+/\s*$")]
    private static partial Regex End();

    [GeneratedRegex(@"(?<=^|\s)[@\\](?!(c|p|ref)\b)(?<name>[a-z]+)(\[[a-z, ]*\])?")]
    private static partial Regex BlockCommand();

    [GeneratedRegex(@"^\w+")]
    private static partial Regex FirstWord();
}
