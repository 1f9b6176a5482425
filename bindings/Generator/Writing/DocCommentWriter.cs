using System.Security;
using System.Text.RegularExpressions;
using MoEKernels.BindingsGenerator.Model;

namespace MoEKernels.BindingsGenerator.Writing;

/// <summary>Writes a comment as C# XML documentation.</summary>
internal sealed partial class DocCommentWriter(SourceWriter writer, SymbolTable symbols)
{
    /// <summary>Writes the comment of a type, field, constant or enum item.</summary>
    internal void Write(DocComment? doc) => Write(doc, []);

    /// <summary>Writes the comment of a function, its parameters in their order.</summary>
    internal void Write(DocComment? doc, IReadOnlyList<ParameterModel> parameters)
    {
        if (doc is null)
            return;

        bool hasSummary = doc.Description is [{ IsPreformatted: false }, ..];
        if (hasSummary)
            Element("summary", Lines(doc.Description[0], doc.Owner));
        foreach (ParameterModel parameter in parameters)
        {
            if (doc.Parameters.TryGetValue(parameter.NativeName, out DocBlock? text))
                Element("param", Lines(text, doc.Owner), $" name=\"{parameter.Name.TrimStart('@')}\"");
        }
        if (doc.Returns is not null)
            Element("returns", Lines(doc.Returns, doc.Owner));
        Remarks([.. doc.Description.Skip(hasSummary ? 1 : 0)], doc.Owner);
    }

    private void Remarks(DocBlock[] blocks, string owner)
    {
        if (blocks is [{ IsPreformatted: false } single])
        {
            Element("remarks", Lines(single, owner));
            return;
        }
        if (blocks.Length == 0)
            return;
        writer.Line("/// <remarks>");
        foreach (DocBlock block in blocks)
            Element(block.IsPreformatted ? "code" : "para", Lines(block, owner));
        writer.Line("/// </remarks>");
    }

    private void Element(string name, string[] lines, string attributes = "")
    {
        if (lines is [string only])
        {
            writer.Line($"/// <{name}{attributes}>{only}</{name}>");
            return;
        }
        writer.Line($"/// <{name}{attributes}>");
        foreach (string line in lines)
            writer.Line($"/// {line}");
        writer.Line($"/// </{name}>");
    }

    private string[] Lines(DocBlock block, string owner) => block.IsPreformatted
        ? [.. block.Lines.Select(Escape)]
        : Inline(string.Join('\n', block.Lines), owner).Split('\n');

    // Markup becomes elements, everything between is escaped.
    private string Inline(string text, string owner)
    {
        List<string> parts = [];
        int from = 0;
        foreach (Match match in Markup().Matches(text))
        {
            parts.Add(Escape(text[from..match.Index]));
            parts.Add(match.Groups["symbol"].Success
                ? Reference(match.Groups["symbol"].Value, owner)
                : $"<c>{Escape(match.Groups["code"].Value)}</c>");
            from = match.Index + match.Length;
        }
        parts.Add(Escape(text[from..]));
        return string.Concat(parts);
    }

    private string Reference(string nativeName, string owner)
    {
        if (!symbols.TryResolve(nativeName, out string? reference))
            throw new GeneratorException($"{owner}: its comment refers to '{nativeName}', which is not declared.");
        // Qualified, since a field often has the name of the enum whose values it takes.
        return reference is null ? $"<c>{nativeName}</c>" : $"<see cref=\"{BindingsWriter.Namespace}.{reference}\"/>";
    }

    private static string Escape(string text) => SecurityElement.Escape(text)
        .Replace("&apos;", "'", StringComparison.Ordinal)
        .Replace("&quot;", "\"", StringComparison.Ordinal);

    [GeneratedRegex("""
        `(?<code>[^`]+)`
        | (?<![\w:])::(?<symbol>\w+)
        | (?<!\w)[@\\]ref\s+(?<symbol>\w+)
        | (?<!\w)[@\\][cp]\s+(?<code>\w+)
        """, RegexOptions.IgnorePatternWhitespace)]
    private static partial Regex Markup();
}
