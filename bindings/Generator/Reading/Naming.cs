using System.Text;

namespace MoEKernels.BindingsGenerator.Reading;

/// <summary>Turns the header's names into C# names.</summary>
internal static class Naming
{
    private const string Prefix = "moek_";
    private const string UpperPrefix = "MOEK_";

    private static readonly HashSet<string> Keywords = new(StringComparer.Ordinal)
    {
        "abstract", "as", "base", "bool", "break", "byte", "case", "catch", "char", "checked", "class", "const",
        "continue", "decimal", "default", "delegate", "do", "double", "else", "enum", "event", "explicit", "extern",
        "false", "finally", "fixed", "float", "for", "foreach", "goto", "if", "implicit", "in", "int", "interface",
        "internal", "is", "lock", "long", "namespace", "new", "null", "object", "operator", "out", "override",
        "params", "private", "protected", "public", "readonly", "ref", "return", "sbyte", "sealed", "short", "sizeof",
        "stackalloc", "static", "string", "struct", "switch", "this", "throw", "true", "try", "typeof", "uint",
        "ulong", "unchecked", "unsafe", "ushort", "using", "virtual", "void", "volatile", "while",
    };

    /// <summary>Name of a type or function: moek_rank_lora_args becomes RankLoraArgs.</summary>
    internal static string OfDeclaration(string nativeName)
    {
        if (!nativeName.StartsWith(Prefix, StringComparison.Ordinal) || nativeName.Length == Prefix.Length)
            throw new GeneratorException($"'{nativeName}': the name of a type or function starts with {Prefix}.");
        return Pascal(nativeName[Prefix.Length..]);
    }

    /// <summary>Name of a macro: MOEK_ABI_VERSION becomes AbiVersion.</summary>
    internal static string OfConstant(string nativeName) =>
        OfUpperCase(nativeName, UpperPrefix, "constant");

    /// <summary>Name of an enum's item: MOEK_DTYPE_BF16 of moek_dtype becomes Bf16.</summary>
    internal static string OfEnumItem(string nativeName, string nativeEnumName) =>
        OfUpperCase(nativeName, nativeEnumName.ToUpperInvariant() + "_", "value of " + nativeEnumName);

    /// <summary>Name of a field: d_in becomes DIn, and the symbol dW_r, whose r is a subscript, DWr.</summary>
    internal static string OfField(string nativeName) => Pascal(nativeName);

    /// <summary>Name of a parameter: out_bytes becomes outBytes.</summary>
    internal static string OfParameter(string nativeName)
    {
        string pascal = Pascal(nativeName);
        string camel = char.ToLowerInvariant(pascal[0]) + pascal[1..];
        return Keywords.Contains(camel) ? "@" + camel : camel;
    }

    /// <summary>Fails when two C names of one scope have become the same C# name.</summary>
    internal static void RequireDistinct(string scope, IEnumerable<(string NativeName, string Name)> names)
    {
        Dictionary<string, string> seen = new(StringComparer.Ordinal);
        foreach ((string nativeName, string name) in names)
        {
            if (!seen.TryAdd(name, nativeName))
                throw new GeneratorException($"{scope}: '{seen[name]}' and '{nativeName}' both become '{name}' in C#.");
        }
    }

    private static string OfUpperCase(string nativeName, string prefix, string kind)
    {
        if (!nativeName.StartsWith(prefix, StringComparison.Ordinal) || nativeName.Length == prefix.Length)
            throw new GeneratorException($"'{nativeName}': the name of a {kind} starts with {prefix}.");
        return Pascal(nativeName[prefix.Length..].ToLowerInvariant());
    }

    private static string Pascal(string name)
    {
        StringBuilder result = new();
        string previous = "";
        foreach (string word in name.Split('_', StringSplitOptions.RemoveEmptyEntries))
        {
            // W_r is W with a subscript, so Wr; d_r is two words, so DR.
            bool isSubscript = word.Length == 1 && previous.Length > 0 && char.IsUpper(previous[^1]);
            // q4_0 must not become Q40.
            if (previous.Length > 0 && char.IsDigit(previous[^1]) && char.IsDigit(word[0]))
                result.Append('_');
            result.Append(isSubscript ? word[0] : char.ToUpperInvariant(word[0])).Append(word, 1, word.Length - 1);
            previous = word;
        }
        if (result.Length == 0 || char.IsDigit(result[0]))
            throw new GeneratorException($"'{name}' gives no valid C# name.");
        return result.ToString();
    }
}
