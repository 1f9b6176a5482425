using System.Buffers;
using System.Buffers.Binary;
using System.Text.Json;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>Reads and writes safetensors files, the format of Hugging Face and PEFT for weights.</summary>
/// <remarks>
/// Format: eight bytes with the length of a JSON header (little endian), the header, the tensors' bytes in row-major order. Files are read
/// defensively: lengths, types, offsets and overlaps are checked before memory is taken.
/// </remarks>
public static class SafetensorsFile
{
    // A span ends at 2 GiB, so longer tensors go through in pieces.
    private const int PieceBytes = 1 << 28;

    /// <summary>Reads the texts that a file carries beside its tensors.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidDataException">It is not a valid safetensors file; the message says where.</exception>
    public static IReadOnlyDictionary<string, string> ReadMetadata(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        using FileStream stream = File.OpenRead(path);
        return SafetensorsHeader.Read(stream, path).Metadata;
    }

    /// <summary>Reads all tensors into host memory.</summary>
    /// <param name="path">The file.</param>
    /// <returns>The tensors by name. They are the caller's to dispose and belong to no DisposeScope.</returns>
    /// <exception cref="InvalidDataException">It is not a valid safetensors file; the message says where.</exception>
    public static IReadOnlyDictionary<string, Tensor> Load(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        using FileStream stream = File.OpenRead(path);
        SafetensorsHeader header = SafetensorsHeader.Read(stream, path);
        var tensors = new Dictionary<string, Tensor>(StringComparer.Ordinal);
        try
        {
            foreach (SafetensorsEntry entry in header.Entries)
            {
                Tensor tensor = empty(entry.Shape, dtype: entry.Type, device: CPU).DetachFromDisposeScope();
                tensors.Add(entry.Name, tensor);
                stream.Position = header.DataStart + entry.Begin;
                ForEachPiece(tensor, entry.Length, stream.ReadExactly);
            }
        }
        catch
        {
            foreach (Tensor tensor in tensors.Values)
                tensor.Dispose();
            throw;
        }
        return tensors;
    }

    /// <summary>
    /// Writes tensors. The file is written under another name in the same folder and renamed at the end, so that an interruption leaves the
    /// old file, or none, but never half of a new one.
    /// </summary>
    /// <param name="path">The file; one that exists is replaced.</param>
    /// <param name="tensors">Tensors by name, on any device.</param>
    /// <param name="metadata">Texts to carry along; null: none.</param>
    /// <exception cref="ArgumentException">A name is empty, reserved or there twice.</exception>
    /// <exception cref="NotSupportedException">A tensor's type has no place in the format.</exception>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public static void Save(string path, IEnumerable<KeyValuePair<string, Tensor>> tensors, IReadOnlyDictionary<string, string>? metadata = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentNullException.ThrowIfNull(tensors);

        // Wide types first keeps every tensor aligned; names make the bytes independent of the caller's order.
        List<(string Name, Tensor Tensor, string DType, int Size)> ordered = [.. tensors
            .Select(entry => (entry.Key, entry.Value, DType: SafetensorsDType.Of(entry.Value.dtype)))
            .Select(entry => (entry.Key, entry.Value, entry.DType.Name, entry.DType.Size))
            .OrderByDescending(entry => entry.Size).ThenBy(entry => entry.Key, StringComparer.Ordinal)];
        byte[] header = WriteHeader(ordered, metadata);

        string full = Path.GetFullPath(path);
        string temporary = $"{full}.{Guid.NewGuid():N}.tmp";
        try
        {
            using (FileStream stream = new(temporary, FileMode.CreateNew, FileAccess.Write))
            {
                stream.Write(header);
                foreach (var entry in ordered)
                    WriteTensor(stream, entry.Tensor, entry.Size);
                stream.Flush(flushToDisk: true);
            }
            File.Move(temporary, full, overwrite: true);
        }
        catch
        {
            File.Delete(temporary);
            throw;
        }
    }

    private static byte[] WriteHeader(List<(string Name, Tensor Tensor, string DType, int Size)> tensors, IReadOnlyDictionary<string, string>? metadata)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            if (metadata is { Count: > 0 })
            {
                json.WriteStartObject(SafetensorsHeader.MetadataKey);
                foreach ((string key, string value) in metadata)
                    json.WriteString(key, value);
                json.WriteEndObject();
            }
            long offset = 0;
            var names = new HashSet<string>(StringComparer.Ordinal);
            foreach ((string name, Tensor tensor, string dtype, int size) in tensors)
            {
                if (string.IsNullOrEmpty(name) || name == SafetensorsHeader.MetadataKey || !names.Add(name))
                    throw new ArgumentException($"The name '{name}' is empty, reserved or there twice.", nameof(tensors));
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
        byte[] header = new byte[8 + padded];
        BinaryPrimitives.WriteUInt64LittleEndian(header, (ulong)padded);
        buffer.WrittenSpan.CopyTo(header.AsSpan(8));
        header.AsSpan(8 + buffer.WrittenCount).Fill((byte)' ');
        return header;
    }

    private static void WriteTensor(FileStream stream, Tensor tensor, int elementSize)
    {
        using var scope = NewDisposeScope();
        Tensor host = tensor.detach().cpu().contiguous();
        ForEachPiece(host, host.numel() * elementSize, piece => stream.Write(piece));
    }

    private static unsafe void ForEachPiece(Tensor tensor, long length, SpanAction action)
    {
        byte* address = (byte*)TensorPointer.Of(tensor);
        for (long done = 0; done < length; done += PieceBytes)
            action(new Span<byte>(address + done, (int)Math.Min(PieceBytes, length - done)));
        GC.KeepAlive(tensor);
    }

    private delegate void SpanAction(Span<byte> piece);
}
