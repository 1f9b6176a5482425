using System.Diagnostics.CodeAnalysis;
using System.Text.Json;

namespace Llama;

/// <summary>The fields of a JSON object; what has the wrong type or value is an error that names file, field, what was got and what was expected.</summary>
/// <param name="element">The object.</param>
/// <param name="place">Where it stands, for messages.</param>
internal sealed class JsonFields(JsonElement element, string place)
{
    private const int LongestValueShown = 60;

    /// <summary>Where the object stands, for messages.</summary>
    public string Place => place;

    /// <summary>All fields.</summary>
    public IEnumerable<JsonProperty> All => element.EnumerateObject();

    /// <summary>Whether a field is there and not null.</summary>
    public bool Has(string name) => Find(name, out _);

    /// <summary>A whole number.</summary>
    /// <param name="name">The field.</param>
    /// <param name="least">The least that is allowed.</param>
    /// <param name="fallback">The value where the field is missing or null; null: it must be there.</param>
    public int Integer(string name, int least, int? fallback = null)
    {
        if (!Find(name, out JsonElement value))
            return fallback ?? throw Missing(name);
        return IsInteger(value, least, out int number) ? number : throw Wrong(name, value, $"a whole number of at least {least}");
    }

    /// <summary>A number above 0.</summary>
    /// <param name="name">The field.</param>
    /// <param name="fallback">The value where the field is missing or null; null: it must be there.</param>
    public double Positive(string name, double? fallback = null)
    {
        if (!Find(name, out JsonElement value))
            return fallback ?? throw Missing(name);
        return value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out double number) && double.IsFinite(number) && number > 0
            ? number
            : throw Wrong(name, value, "a number above 0");
    }

    /// <summary>A probability, 0 to below 1; 0 where the field is missing or null.</summary>
    /// <param name="name">The field.</param>
    public double Probability(string name)
    {
        if (!Find(name, out JsonElement value))
            return 0;
        return value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out double number) && number is >= 0 and < 1
            ? number
            : throw Wrong(name, value, "a number from 0 to below 1");
    }

    /// <summary>True or false.</summary>
    /// <param name="name">The field.</param>
    /// <param name="fallback">The value where the field is missing or null.</param>
    public bool Flag(string name, bool fallback)
    {
        if (!Find(name, out JsonElement value))
            return fallback;
        return value.ValueKind is JsonValueKind.True or JsonValueKind.False ? value.GetBoolean() : throw Wrong(name, value, "true or false");
    }

    /// <summary>A text.</summary>
    /// <param name="name">The field.</param>
    /// <param name="fallback">The value where the field is missing or null; null: it must be there.</param>
    public string Text(string name, string? fallback = null)
    {
        if (!Find(name, out JsonElement value))
            return fallback ?? throw Missing(name);
        return value.ValueKind == JsonValueKind.String ? value.GetString()! : throw Wrong(name, value, "a text");
    }

    /// <summary>A whole number or a list of them; empty where the field is missing or null.</summary>
    /// <param name="name">The field.</param>
    public IReadOnlyList<int> Integers(string name)
    {
        if (!Find(name, out JsonElement value))
            return [];
        JsonElement[] items = value.ValueKind == JsonValueKind.Array ? [.. value.EnumerateArray()] : [value];
        return [.. items.Select(item => IsInteger(item, 0, out int number) ? number : throw Wrong(name, value, "whole numbers of at least 0"))];
    }

    /// <summary>An object; null where the field is missing or null.</summary>
    /// <param name="name">The field.</param>
    public JsonFields? Object(string name)
    {
        if (!Find(name, out JsonElement value))
            return null;
        return value.ValueKind == JsonValueKind.Object ? new JsonFields(value, $"{place}, '{name}'") : throw Wrong(name, value, "an object");
    }

    /// <summary>A list of objects; empty where the field is missing or null.</summary>
    /// <param name="name">The field.</param>
    public IReadOnlyList<JsonFields> Objects(string name) => List(name, JsonValueKind.Object, "a list of objects", (item, i) => new JsonFields(item, $"{place}, '{name}' {i}"));

    /// <summary>A list of texts; empty where the field is missing or null.</summary>
    /// <param name="name">The field.</param>
    public IReadOnlyList<string> Texts(string name) => List(name, JsonValueKind.String, "a list of texts", (item, _) => item.GetString()!);

    /// <summary>A list of anything; empty where the field is missing or null.</summary>
    /// <param name="name">The field.</param>
    public IReadOnlyList<JsonElement> Items(string name) => List(name, null, "a list", (item, _) => item);

    /// <summary>The error for a value that cannot be used.</summary>
    /// <param name="name">The field.</param>
    /// <param name="expected">What could be.</param>
    public UserException Wrong(string name, string expected) =>
        Find(name, out JsonElement value) ? Wrong(name, value, expected) : Missing(name);

    private List<T> List<T>(string name, JsonValueKind? kind, string expected, Func<JsonElement, int, T> read)
    {
        if (!Find(name, out JsonElement value))
            return [];
        if (value.ValueKind != JsonValueKind.Array)
            throw Wrong(name, value, expected);
        List<T> list = [];
        foreach (JsonElement item in value.EnumerateArray())
        {
            if (kind is not null && item.ValueKind != kind)
                throw Wrong(name, value, expected);
            list.Add(read(item, list.Count));
        }

        return list;
    }

    private static bool IsInteger(JsonElement value, int least, out int number)
    {
        number = 0;
        return value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out number) && number >= least;
    }

    private bool Find(string name, [NotNullWhen(true)] out JsonElement value) =>
        element.TryGetProperty(name, out value) && value.ValueKind is not (JsonValueKind.Null or JsonValueKind.Undefined);

    private UserException Missing(string name) => new($"{place} lacks the field '{name}'");

    private UserException Wrong(string name, JsonElement value, string expected)
    {
        string text = value.GetRawText().ReplaceLineEndings(" ");
        string shown = text.Length > LongestValueShown ? $"{text[..LongestValueShown]}…" : text;
        return new UserException($"{place}: the field '{name}' is {shown}; expected {expected}");
    }
}
