using System.Text;

namespace MoEKernels.BindingsGenerator.Writing;

/// <summary>Collects indented source lines, always ended by a line feed.</summary>
internal sealed class SourceWriter
{
    private readonly StringBuilder _text = new();
    private int _depth;

    /// <summary>Writes one line; an empty one gets no indentation.</summary>
    internal void Line(string line = "")
    {
        if (line.Length > 0)
            _text.Append(' ', 4 * _depth).Append(line);
        _text.Append('\n');
    }

    /// <summary>Opens a block of braces; what is written until the result is disposed is indented.</summary>
    internal IDisposable Block(string header, string close = "}")
    {
        Line(header);
        Line("{");
        _depth++;
        return new OpenBlock(this, close);
    }

    /// <summary>Indents the continuation of a statement until the result is disposed.</summary>
    internal IDisposable Indented()
    {
        _depth++;
        return new OpenBlock(this, close: null);
    }

    public override string ToString() => _text.ToString();

    private sealed class OpenBlock(SourceWriter writer, string? close) : IDisposable
    {
        public void Dispose()
        {
            writer._depth--;
            if (close is not null)
                writer.Line(close);
        }
    }
}
