using System.Globalization;
using System.Text.RegularExpressions;
using CppSharp.AST;
using MoEKernels.BindingsGenerator.Model;

namespace MoEKernels.BindingsGenerator.Reading;

/// <summary>Reads the constants that the header defines as macros.</summary>
internal static partial class MacroReader
{
    /// <summary>Reads every macro that has a value, save those that only decorate declarations (MOEK_API).</summary>
    /// <param name="unit">The parsed header.</param>
    /// <param name="lines">The header's text: clang keeps no comments of macros.</param>
    internal static IEnumerable<ConstantModel> Read(TranslationUnit unit, string[] lines)
    {
        IEnumerable<MacroDefinition> macros = unit.PreprocessedEntities.OfType<MacroDefinition>()
            .DistinctBy(m => m.Name)
            .Where(m => !Decoration().IsMatch(m.Expression));
        foreach (MacroDefinition macro in macros)
        {
            (string type, long value) = Parse(macro);
            string? comment = CommentOf(macro.Name, lines);
            DocComment? doc = comment is null ? null : DocCommentReader.Read(comment, macro.Name);
            yield return new ConstantModel(macro.Name, Naming.OfConstant(macro.Name), type, value, doc);
        }
    }

    private static (string Type, long Value) Parse(MacroDefinition macro)
    {
        Match match = Integer().Match(macro.Expression);
        bool isHexadecimal = match.Groups["hex"].Success;
        string digits = isHexadecimal ? match.Groups["hex"].Value : match.Groups["decimal"].Value;
        NumberStyles style = isHexadecimal ? NumberStyles.AllowHexSpecifier : NumberStyles.None;
        if (!match.Success || !ulong.TryParse(digits, style, CultureInfo.InvariantCulture, out ulong magnitude)
            || magnitude > long.MaxValue)
        {
            throw new GeneratorException(
                $"{macro.Name}: got '{macro.Expression}', expected one integer literal of at most 63 bits.");
        }
        long value = match.Groups["sign"].Success ? -(long)magnitude : (long)magnitude;
        return (value is >= int.MinValue and <= int.MaxValue ? "int" : "long", value);
    }

    private static string? CommentOf(string macro, string[] lines)
    {
        int at = Array.FindIndex(lines, line => Regex.IsMatch(line, $@"^\s*#\s*define\s+{macro}\b"));
        if (at < 0)
            return null;
        int trailing = lines[at].IndexOf("/**<", StringComparison.Ordinal);
        if (trailing >= 0)
        {
            int last = Array.FindIndex(lines, at, line => line.Contains("*/", StringComparison.Ordinal));
            return string.Join('\n', lines[(at + 1)..(last + 1)].Prepend(lines[at][trailing..]));
        }
        if (at == 0 || !lines[at - 1].TrimEnd().EndsWith("*/", StringComparison.Ordinal))
            return null;
        int first = Array.FindLastIndex(lines, at - 1, line => line.Contains("/*", StringComparison.Ordinal));
        return first >= 0 && DocumentationStart().IsMatch(lines[first]) ? string.Join('\n', lines[first..at]) : null;
    }

    [GeneratedRegex(@"^(__attribute__|__declspec|extern\b|__cdecl\b)")]
    private static partial Regex Decoration();

    [GeneratedRegex(@"^\(?\s*(?<sign>-)?(0[xX](?<hex>[0-9a-fA-F]+)|(?<decimal>0|[1-9][0-9]*))[uUlL]*\s*\)?$")]
    private static partial Regex Integer();

    [GeneratedRegex(@"^\s*/\*[*!](?!<)")]
    private static partial Regex DocumentationStart();
}
