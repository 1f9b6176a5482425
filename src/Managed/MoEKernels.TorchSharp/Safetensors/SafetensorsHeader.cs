using System.Buffers.Binary;
using System.Text.Json;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>Where a tensor lies in a safetensors file.</summary>
/// <param name="Name">Name of the tensor.</param>
/// <param name="Type">Element type.</param>
/// <param name="Shape">Shape.</param>
/// <param name="Begin">First byte, counted from the end of the header.</param>
/// <param name="Length">Bytes.</param>
internal sealed record SafetensorsEntry(string Name, ScalarType Type, long[] Shape, long Begin, long Length);

/// <summary>
/// The header of a safetensors file: eight bytes with its length, then JSON, then the tensors' bytes. Everything the file claims is
/// checked against its size before memory for it is taken.
/// </summary>
internal sealed class SafetensorsHeader
{
    /// <summary>The longest header accepted, the same limit as in the format's own implementation.</summary>
    public const int MaxHeaderBytes = 100_000_000;

    public const string MetadataKey = "__metadata__";

    private SafetensorsHeader(long dataStart, List<SafetensorsEntry> entries, Dictionary<string, string> metadata)
    {
        DataStart = dataStart;
        Entries = entries;
        Metadata = metadata;
    }

    public long DataStart { get; }

    /// <summary>In the order of the file's bytes.</summary>
    public IReadOnlyList<SafetensorsEntry> Entries { get; }

    public IReadOnlyDictionary<string, string> Metadata { get; }

    public static SafetensorsHeader Read(Stream stream, string path)
    {
        long fileLength = stream.Length;
        if (fileLength < 8)
            throw Damaged(path, $"it has {fileLength} bytes; expected at least 8");
        Span<byte> prefix = stackalloc byte[8];
        stream.ReadExactly(prefix);
        ulong headerLength = BinaryPrimitives.ReadUInt64LittleEndian(prefix);
        if (headerLength > MaxHeaderBytes)
            throw Damaged(path, $"its header claims {headerLength} bytes; at most {MaxHeaderBytes} are accepted");
        if ((long)headerLength > fileLength - 8)
            throw Damaged(path, $"its header claims {headerLength} bytes, but only {fileLength - 8} follow");

        byte[] json = new byte[headerLength];
        stream.ReadExactly(json);
        long dataLength = fileLength - 8 - (long)headerLength;
        try
        {
            using var document = JsonDocument.Parse(json);
            return Parse(document.RootElement, 8 + (long)headerLength, dataLength, path);
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"'{path}' is not a safetensors file: its header is not JSON ({e.Message}).", e);
        }
    }

    private static SafetensorsHeader Parse(JsonElement root, long dataStart, long dataLength, string path)
    {
        if (root.ValueKind != JsonValueKind.Object)
            throw Damaged(path, "its header is not a JSON object");
        var entries = new List<SafetensorsEntry>();
        var metadata = new Dictionary<string, string>(StringComparer.Ordinal);
        var names = new HashSet<string>(StringComparer.Ordinal);
        foreach (JsonProperty property in root.EnumerateObject())
        {
            if (!names.Add(property.Name))
                throw Damaged(path, $"'{property.Name}' appears twice");
            if (property.Name == MetadataKey)
                ParseMetadata(property.Value, metadata, path);
            else
                entries.Add(ParseEntry(property, dataLength, path));
        }

        entries.Sort((x, y) => (x.Begin, x.Length).CompareTo((y.Begin, y.Length)));
        long expected = 0;
        foreach (SafetensorsEntry entry in entries)
        {
            if (entry.Begin != expected)
                throw Damaged(path, $"'{entry.Name}' begins at byte {entry.Begin}; expected {expected}, since tensors neither overlap nor leave gaps");
            expected += entry.Length;
        }
        if (expected != dataLength)
            throw Damaged(path, $"its tensors have {expected} bytes, but {dataLength} follow the header");
        return new SafetensorsHeader(dataStart, entries, metadata);
    }

    private static void ParseMetadata(JsonElement value, Dictionary<string, string> metadata, string path)
    {
        if (value.ValueKind != JsonValueKind.Object)
            throw Damaged(path, "its metadata is not a JSON object");
        foreach (JsonProperty property in value.EnumerateObject())
        {
            if (property.Value.ValueKind != JsonValueKind.String)
                throw Damaged(path, $"its metadata '{property.Name}' is not a text");
            metadata[property.Name] = property.Value.GetString()!;
        }
    }

    private static SafetensorsEntry ParseEntry(JsonProperty property, long dataLength, string path)
    {
        string name = property.Name;
        if (property.Value.ValueKind != JsonValueKind.Object)
            throw Damaged(path, $"'{name}' is not described by a JSON object");
        if (!property.Value.TryGetProperty("dtype", out JsonElement dtype) || dtype.ValueKind != JsonValueKind.String)
            throw Damaged(path, $"'{name}' has no dtype");
        if (!SafetensorsDType.TryParse(dtype.GetString(), out ScalarType type, out int size))
            throw Damaged(path, $"'{name}' has the dtype {dtype.GetString()}; expected one of {SafetensorsDType.Names}");

        long[] shape = ParseNumbers(property.Value, "shape", name, path);
        long bytes = size;
        try
        {
            foreach (long dimension in shape)
                bytes = checked(bytes * dimension);
        }
        catch (OverflowException)
        {
            throw Damaged(path, $"'{name}' has the impossible shape [{string.Join(", ", shape)}]");
        }

        long[] offsets = ParseNumbers(property.Value, "data_offsets", name, path);
        if (offsets.Length != 2 || offsets[0] > offsets[1] || offsets[1] > dataLength)
            throw Damaged(path, $"'{name}' has the offsets [{string.Join(", ", offsets)}]; expected two in rising order of at most {dataLength}");
        if (offsets[1] - offsets[0] != bytes)
            throw Damaged(path, $"'{name}' has {offsets[1] - offsets[0]} bytes; its dtype and shape need {bytes}");
        return new SafetensorsEntry(name, type, shape, offsets[0], bytes);
    }

    private static long[] ParseNumbers(JsonElement description, string key, string name, string path)
    {
        if (!description.TryGetProperty(key, out JsonElement list) || list.ValueKind != JsonValueKind.Array)
            throw Damaged(path, $"'{name}' has no {key}");
        long[] numbers = new long[list.GetArrayLength()];
        for (int i = 0; i < numbers.Length; i++)
        {
            if (list[i].ValueKind != JsonValueKind.Number || !list[i].TryGetInt64(out numbers[i]) || numbers[i] < 0)
                throw Damaged(path, $"'{name}' has {list[i]} in its {key}; expected whole numbers of at least 0");
        }
        return numbers;
    }

    private static InvalidDataException Damaged(string path, string what) => new($"'{path}' is not a valid safetensors file: {what}.");
}
