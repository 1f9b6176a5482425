using System.Buffers;
using System.Buffers.Binary;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>Reads and writes whole safetensors files, the format of Hugging Face and PEFT for weights.</summary>
/// <remarks>
/// Format: eight bytes with the length of a JSON header (little endian), the header, the tensors' bytes in row-major order. To read single tensors
/// use <see cref="SafetensorsReader"/>, which also says what is checked; for a model in several files <see cref="SafetensorsCheckpoint"/>.
/// </remarks>
public static class SafetensorsFile
{
    private const string StreamName = "stream";

    /// <summary>Reads the texts that a file carries beside its tensors.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidDataException">It is not a valid safetensors file; the message says where.</exception>
    public static IReadOnlyDictionary<string, string> ReadMetadata(string path)
    {
        using var reader = SafetensorsReader.Open(path);
        return reader.Metadata;
    }

    /// <summary>Reads all tensors into host memory.</summary>
    /// <param name="path">The file.</param>
    /// <returns>The tensors by name. They are the caller's to dispose and belong to no DisposeScope.</returns>
    /// <exception cref="InvalidDataException">It is not a valid safetensors file; the message says where.</exception>
    /// <exception cref="NotSupportedException">TorchSharp lacks the element type of a tensor.</exception>
    public static IReadOnlyDictionary<string, Tensor> Load(string path)
    {
        using var reader = SafetensorsReader.Open(path);
        return reader.ReadAll();
    }

    /// <summary>Reads all tensors from a stream, from its position to its end.</summary>
    /// <param name="stream">The stream; it is left open.</param>
    /// <returns>The tensors by name. They are the caller's to dispose and belong to no DisposeScope.</returns>
    /// <exception cref="ArgumentException">The stream cannot be read, or not be sought in: its length tells what the header may claim.</exception>
    /// <exception cref="InvalidDataException">It does not hold a valid safetensors file; the message says where.</exception>
    /// <exception cref="NotSupportedException">TorchSharp lacks the element type of a tensor.</exception>
    public static IReadOnlyDictionary<string, Tensor> Load(Stream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        if (!stream.CanRead || !stream.CanSeek)
            throw new ArgumentException("The stream cannot be read and sought in; copy it to a file or a MemoryStream first.", nameof(stream));
        long start = stream.Position;
        long length = stream.Length - start;
        byte[] prefix = new byte[SafetensorsHeader.PrefixBytes];
        stream.ReadAtLeast(prefix, prefix.Length, throwOnEndOfStream: false);
        byte[] json = new byte[SafetensorsHeader.ReadLength(prefix, length, StreamName)];
        stream.ReadExactly(json);
        var header = SafetensorsHeader.Parse(json, length - prefix.Length - json.Length, StreamName);
        return SafetensorsReader.LoadAll(header.Entries, entry =>
        {
            Tensor tensor = SafetensorsReader.Allocate(entry, StreamName);
            stream.Position = start + header.DataStart + entry.Begin;
            ForEachPiece(tensor, entry.Length, stream.ReadExactly);
            return tensor;
        });
    }

    /// <summary>
    /// Writes tensors. The file is written under another name in the same folder and renamed at the end, so that an interruption leaves the
    /// old file, or none, but never half of a new one. At most one tensor is copied to the host at a time.
    /// </summary>
    /// <param name="path">The file; one that exists is replaced.</param>
    /// <param name="tensors">Tensors by name, on any device.</param>
    /// <param name="metadata">Texts to carry along; null: none.</param>
    /// <exception cref="ArgumentException">A name is empty, reserved, not Unicode or there twice.</exception>
    /// <exception cref="NotSupportedException">A tensor's type has no place in the format.</exception>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public static void Save(string path, IEnumerable<KeyValuePair<string, Tensor>> tensors, IReadOnlyDictionary<string, string>? metadata = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentNullException.ThrowIfNull(tensors);
        List<Item> ordered = InFileOrder(tensors);
        byte[] header = WriteHeader(ordered, metadata);
        AtomicFile.Write(path, stream => Write(stream, ordered, header));
    }

    /// <summary>Writes tensors to a stream, at its position.</summary>
    /// <param name="stream">The stream; it is left open.</param>
    /// <param name="tensors">Tensors by name, on any device.</param>
    /// <param name="metadata">Texts to carry along; null: none.</param>
    /// <exception cref="ArgumentException">The stream cannot be written, or a name is empty, reserved, not Unicode or there twice.</exception>
    /// <exception cref="NotSupportedException">A tensor's type has no place in the format.</exception>
    public static void SaveTo(Stream stream, IEnumerable<KeyValuePair<string, Tensor>> tensors, IReadOnlyDictionary<string, string>? metadata = null)
    {
        ArgumentNullException.ThrowIfNull(stream);
        ArgumentNullException.ThrowIfNull(tensors);
        if (!stream.CanWrite)
            throw new ArgumentException("The stream cannot be written.", nameof(stream));
        List<Item> ordered = InFileOrder(tensors);
        Write(stream, ordered, WriteHeader(ordered, metadata));
    }

    private static void Write(Stream stream, List<Item> ordered, byte[] header)
    {
        stream.Write(header);
        foreach (Item item in ordered)
            WriteTensor(stream, item.Tensor, item.Size);
    }

    // Wide types first keeps every tensor aligned; names make the bytes independent of the caller's order.
    private static List<Item> InFileOrder(IEnumerable<KeyValuePair<string, Tensor>> tensors) =>
        [.. tensors
            .Select(entry => (entry.Key, entry.Value, DType: SafetensorsDType.Of(entry.Value.dtype)))
            .Select(entry => new Item(entry.Key, entry.Value, entry.DType.Name, entry.DType.Size))
            .OrderByDescending(entry => entry.Size).ThenBy(entry => entry.Name, StringComparer.Ordinal)];

    private static byte[] WriteHeader(List<Item> tensors, IReadOnlyDictionary<string, string>? metadata)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            if (metadata is { Count: > 0 })
            {
                json.WriteStartObject(SafetensorsHeader.MetadataKey);
                foreach ((string key, string value) in metadata.OrderBy(entry => entry.Key, StringComparer.Ordinal))
                    json.WriteString(key, value);
                json.WriteEndObject();
            }
            long offset = 0;
            var names = new HashSet<string>(StringComparer.Ordinal);
            foreach ((string name, Tensor tensor, string dtype, int size) in tensors)
            {
                if (string.IsNullOrEmpty(name) || name == SafetensorsHeader.MetadataKey || !names.Add(name))
                    throw new ArgumentException($"The name '{name}' is empty, reserved or there twice.", nameof(tensors));
                if (!IsUnicode(name))
                    throw new ArgumentException($"The name '{name}' is not Unicode: it holds half of a surrogate pair.", nameof(tensors));
                long bytes = tensor.numel() * size;
                json.WriteStartObject(name);
                json.WriteString("dtype", dtype);
                json.WriteStartArray("shape");
                foreach (long dimension in tensor.shape)
                    json.WriteNumberValue(dimension);
                json.WriteEndArray();
                json.WriteStartArray("data_offsets");
                json.WriteNumberValue(offset);
                json.WriteNumberValue(offset += bytes);
                json.WriteEndArray();
                json.WriteEndObject();
            }
            json.WriteEndObject();
        }

        int padded = (buffer.WrittenCount + 7) & ~7;
        if (padded > SafetensorsHeader.MaxHeaderBytes)
            throw new ArgumentException($"The header needs {padded} bytes; at most {SafetensorsHeader.MaxHeaderBytes} are allowed.", nameof(tensors));
        byte[] header = new byte[SafetensorsHeader.PrefixBytes + padded];
        BinaryPrimitives.WriteUInt64LittleEndian(header, (ulong)padded);
        buffer.WrittenSpan.CopyTo(header.AsSpan(SafetensorsHeader.PrefixBytes));
        header.AsSpan(SafetensorsHeader.PrefixBytes + buffer.WrittenCount).Fill((byte)' ');
        return header;
    }

    private static bool IsUnicode(string text)
    {
        ReadOnlySpan<char> rest = text;
        while (!rest.IsEmpty)
        {
            if (Rune.DecodeFromUtf16(rest, out _, out int length) != OperationStatus.Done)
                return false;
            rest = rest[length..];
        }
        return true;
    }

    private static void WriteTensor(Stream stream, Tensor tensor, int elementSize)
    {
        using var scope = NewDisposeScope();
        Tensor host = tensor.detach().cpu().contiguous();
        ForEachPiece(host, host.numel() * elementSize, piece => stream.Write(piece));
    }

    private static unsafe void ForEachPiece(Tensor tensor, long length, SpanAction action)
    {
        byte* address = (byte*)TensorPointer.Of(tensor);
        for (long done = 0; done < length; done += SafetensorsReader.PieceBytes)
            action(new Span<byte>(address + done, (int)Math.Min(SafetensorsReader.PieceBytes, length - done)));
        GC.KeepAlive(tensor);
    }

    private delegate void SpanAction(Span<byte> piece);

    private sealed record Item(string Name, Tensor Tensor, string DType, int Size);
}
