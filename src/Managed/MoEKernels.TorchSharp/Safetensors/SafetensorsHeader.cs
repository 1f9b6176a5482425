using System.Buffers.Binary;
using System.Text.Json;
using System.Text.Unicode;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// The header of a safetensors file: eight bytes with its length, then JSON, then the tensors' bytes. Everything the file claims is
/// checked against its size before memory for it is taken, and the JSON is read in one pass without a tree of it.
/// </summary>
internal sealed class SafetensorsHeader
{
    /// <summary>The longest header accepted, the same limit as in the format's own implementation.</summary>
    public const int MaxHeaderBytes = 100_000_000;

    /// <summary>The bytes before the header.</summary>
    public const int PrefixBytes = 8;

    public const string MetadataKey = "__metadata__";

    // libtorch's own limit.
    private const int MaxDimensions = 64;

    // The format needs three levels; unknown fields of an entry are skipped, and may nest a little.
    private const int MaxDepth = 16;

    private const string DTypeKey = "dtype";
    private const string ShapeKey = "shape";
    private const string OffsetsKey = "data_offsets";

    private SafetensorsHeader(long dataStart, List<SafetensorsEntry> entries, Dictionary<string, string> metadata)
    {
        DataStart = dataStart;
        Entries = entries;
        Metadata = metadata;
    }

    /// <summary>Where the tensors' bytes begin, counted from the start of the file.</summary>
    public long DataStart { get; }

    /// <summary>In the order of the file's bytes.</summary>
    public IReadOnlyList<SafetensorsEntry> Entries { get; }

    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>Length of the JSON part, checked.</summary>
    /// <param name="prefix">The first <see cref="PrefixBytes"/> bytes, or fewer when the file has fewer.</param>
    /// <param name="fileLength">Bytes of the whole file.</param>
    /// <param name="source">Name of the file for messages.</param>
    public static int ReadLength(ReadOnlySpan<byte> prefix, long fileLength, string source)
    {
        if (fileLength < PrefixBytes)
            throw Damaged(source, $"it has {fileLength} bytes; expected at least {PrefixBytes}");
        ulong length = BinaryPrimitives.ReadUInt64LittleEndian(prefix);
        if (length > MaxHeaderBytes)
            throw Damaged(source, $"its header claims {length} bytes; at most {MaxHeaderBytes} are accepted");
        if ((long)length > fileLength - PrefixBytes)
            throw Damaged(source, $"its header claims {length} bytes, but only {fileLength - PrefixBytes} follow");
        return (int)length;
    }

    /// <summary>Reads and checks the JSON part.</summary>
    /// <param name="json">The header's bytes.</param>
    /// <param name="dataLength">Bytes that follow the header.</param>
    /// <param name="source">Name of the file for messages.</param>
    public static SafetensorsHeader Parse(ReadOnlySpan<byte> json, long dataLength, string source)
    {
        if (!Utf8.IsValid(json))
            throw Damaged(source, "its header is not UTF-8");
        try
        {
            return ParseJson(json, dataLength, source);
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"'{source}' is not a valid safetensors file: its header is not JSON ({e.Message}).", e);
        }
        catch (InvalidOperationException e)
        {
            // What the reader throws for an escape like \ud800, half of a pair, in a text.
            throw new InvalidDataException($"'{source}' is not a valid safetensors file: its header holds a text that is not Unicode ({e.Message}).", e);
        }
    }

    private static SafetensorsHeader ParseJson(ReadOnlySpan<byte> json, long dataLength, string source)
    {
        var reader = new Utf8JsonReader(json, new JsonReaderOptions { MaxDepth = MaxDepth });
        if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject)
            throw Damaged(source, "its header is not a JSON object");
        var entries = new List<SafetensorsEntry>();
        var metadata = new Dictionary<string, string>(StringComparer.Ordinal);
        var names = new HashSet<string>(StringComparer.Ordinal);
        while (NextProperty(ref reader, names, source, "its header") is { } name)
        {
            if (name == MetadataKey)
                ParseMetadata(ref reader, metadata, source);
            else
                entries.Add(ParseEntry(ref reader, name, dataLength, source));
        }
        // Only blanks may follow; anything else makes this throw.
        reader.Read();

        entries.Sort((x, y) => (x.Begin, x.Length).CompareTo((y.Begin, y.Length)));
        long expected = 0;
        foreach (SafetensorsEntry entry in entries)
        {
            if (entry.Begin != expected)
                throw Damaged(source, $"'{entry.Name}' begins at byte {entry.Begin}; expected {expected}, since tensors neither overlap nor leave gaps");
            expected += entry.Length;
        }
        if (expected != dataLength)
            throw Damaged(source, $"its tensors have {expected} bytes, but {dataLength} follow the header");
        return new SafetensorsHeader(PrefixBytes + json.Length, entries, metadata);
    }

    private static void ParseMetadata(ref Utf8JsonReader reader, Dictionary<string, string> metadata, string source)
    {
        if (reader.TokenType != JsonTokenType.StartObject)
            throw Damaged(source, "its metadata is not a JSON object");
        var names = new HashSet<string>(StringComparer.Ordinal);
        while (NextProperty(ref reader, names, source, "its metadata") is { } name)
        {
            if (reader.TokenType != JsonTokenType.String)
                throw Damaged(source, $"its metadata '{name}' is not a text");
            metadata.Add(name, reader.GetString()!);
        }
    }

    private static SafetensorsEntry ParseEntry(ref Utf8JsonReader reader, string name, long dataLength, string source)
    {
        if (reader.TokenType != JsonTokenType.StartObject)
            throw Damaged(source, $"'{name}' is not described by a JSON object");
        string? dtype = null;
        long[]? shape = null, offsets = null;
        var names = new HashSet<string>(StringComparer.Ordinal);
        while (NextProperty(ref reader, names, source, $"'{name}'") is { } field)
        {
            switch (field)
            {
                case DTypeKey:
                    if (reader.TokenType != JsonTokenType.String)
                        throw Damaged(source, $"the {DTypeKey} of '{name}' is not a text");
                    dtype = reader.GetString();
                    break;
                case ShapeKey:
                    shape = ParseNumbers(ref reader, ShapeKey, name, source);
                    break;
                case OffsetsKey:
                    offsets = ParseNumbers(ref reader, OffsetsKey, name, source);
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        if (dtype is null)
            throw Damaged(source, $"'{name}' has no {DTypeKey}");
        if (shape is null)
            throw Damaged(source, $"'{name}' has no {ShapeKey}");
        if (offsets is null)
            throw Damaged(source, $"'{name}' has no {OffsetsKey}");
        if (!SafetensorsDType.TryParse(dtype, out ScalarType? type, out int size))
            throw Damaged(source, $"'{name}' has the {DTypeKey} {Shorten(dtype)}; expected one of {SafetensorsDType.Names}");
        if (offsets.Length != 2 || offsets[0] > offsets[1] || offsets[1] > dataLength)
            throw Damaged(source, $"'{name}' has the {OffsetsKey} [{string.Join(", ", offsets)}]; expected two in rising order of at most {dataLength}");
        long bytes = BytesOf(shape, size) ?? throw Damaged(source, $"'{name}' has the impossible {ShapeKey} [{string.Join(", ", shape)}]");
        if (offsets[1] - offsets[0] != bytes)
            throw Damaged(source, $"'{name}' has {offsets[1] - offsets[0]} bytes; its {DTypeKey} {dtype} and {ShapeKey} [{string.Join(", ", shape)}] need {bytes}");
        return new SafetensorsEntry(name, dtype, type, size, shape, offsets[0], bytes);
    }

    /// <summary>Null when the number does not fit, also where a 0 in the shape hides it: libtorch multiplies the others for its strides.</summary>
    private static long? BytesOf(long[] shape, int elementSize)
    {
        try
        {
            long bytes = elementSize;
            foreach (long dimension in shape)
                bytes = checked(bytes * Math.Max(1, dimension));
            return shape.Contains(0) ? 0 : bytes;
        }
        catch (OverflowException)
        {
            return null;
        }
    }

    private static long[] ParseNumbers(ref Utf8JsonReader reader, string key, string name, string source)
    {
        if (reader.TokenType != JsonTokenType.StartArray)
            throw Damaged(source, $"the {key} of '{name}' is not a list");
        Span<long> numbers = stackalloc long[MaxDimensions];
        int count = 0;
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (count == MaxDimensions)
                throw Damaged(source, $"'{name}' has more than {MaxDimensions} numbers in its {key}");
            if (reader.TokenType != JsonTokenType.Number || !reader.TryGetInt64(out long number) || number < 0)
                throw Damaged(source, $"'{name}' has {Raw(ref reader)} in its {key}; expected whole numbers of at least 0");
            numbers[count++] = number;
        }
        return numbers[..count].ToArray();
    }

    /// <summary>The name of the next property of an object, with the reader on its value; null at the object's end.</summary>
    private static string? NextProperty(ref Utf8JsonReader reader, HashSet<string> seen, string source, string owner)
    {
        if (!reader.Read() || reader.TokenType == JsonTokenType.EndObject)
            return null;
        string name = reader.GetString()!;
        if (!seen.Add(name))
            throw Damaged(source, $"{owner} has '{Shorten(name)}' twice");
        reader.Read();
        return name;
    }

    private static string Raw(ref Utf8JsonReader reader) =>
        reader.TokenType == JsonTokenType.Number ? Shorten(System.Text.Encoding.UTF8.GetString(reader.ValueSpan)) : $"a {reader.TokenType}";

    private static string Shorten(string text) => text.Length <= 100 ? text : $"{text.AsSpan(0, 100)}…";

    private static InvalidDataException Damaged(string source, string what) => new($"'{source}' is not a valid safetensors file: {what}.");
}
