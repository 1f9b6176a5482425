using System.Buffers;
using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.RegularExpressions;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// The weights of a Hugging Face model folder: <c>model.safetensors</c>, or several files that <c>model.safetensors.index.json</c> lists.
/// </summary>
/// <remarks>Opening reads and checks the index and the header of every file; tensors are read one by one, see <see cref="SafetensorsReader"/>.</remarks>
public sealed partial class SafetensorsCheckpoint : IDisposable
{
    /// <summary>Name of the file when there is one.</summary>
    public const string FileName = "model.safetensors";

    /// <summary>Name of the index when there are several files.</summary>
    public const string IndexFileName = "model.safetensors.index.json";

    private const string WeightMapKey = "weight_map";

    private readonly List<SafetensorsReader> _files;
    private readonly Dictionary<string, SafetensorsReader> _fileOf;

    private SafetensorsCheckpoint(List<SafetensorsReader> files, Dictionary<string, SafetensorsReader> fileOf)
    {
        _files = files;
        _fileOf = fileOf;
    }

    /// <summary>The tensors' names.</summary>
    public IReadOnlyCollection<string> Names => _fileOf.Keys;

    /// <summary>The files that the tensors lie in.</summary>
    public IReadOnlyList<string> Files => [.. _files.Select(file => file.Path)];

    /// <summary>Opens the weights of a folder.</summary>
    /// <param name="folder">A folder with <see cref="FileName"/> or, looked for after it, <see cref="IndexFileName"/>.</param>
    /// <exception cref="FileNotFoundException">The folder has neither, or a file that the index names is missing.</exception>
    /// <exception cref="InvalidDataException">
    /// A file is not a valid safetensors file, the index is not of its form or names a file outside the folder, or a tensor is not where
    /// the index says.
    /// </exception>
    public static SafetensorsCheckpoint Open(string folder)
    {
        ArgumentException.ThrowIfNullOrEmpty(folder);
        string single = Path.Combine(folder, FileName);
        if (File.Exists(single))
        {
            var file = SafetensorsReader.Open(single);
            return new SafetensorsCheckpoint([file], file.Entries.ToDictionary(entry => entry.Name, _ => file, StringComparer.Ordinal));
        }
        string index = Path.Combine(folder, IndexFileName);
        if (!File.Exists(index))
            throw new FileNotFoundException($"'{folder}' has neither {FileName} nor {IndexFileName}.", single);
        return OpenShards(folder, index);
    }

    /// <summary>Whether there is a tensor of that name.</summary>
    /// <param name="name">Name of the tensor.</param>
    public bool Contains(string name) => _fileOf.ContainsKey(name);

    /// <summary>What the file says of a tensor.</summary>
    /// <param name="name">Name of the tensor.</param>
    /// <exception cref="KeyNotFoundException">There is no such tensor.</exception>
    public SafetensorsEntry Describe(string name) => FileOf(name).Describe(name);

    /// <summary>Reads one tensor into host memory.</summary>
    /// <param name="name">Name of the tensor.</param>
    /// <returns>A new tensor, in the current DisposeScope if there is one.</returns>
    /// <exception cref="KeyNotFoundException">There is no such tensor.</exception>
    /// <exception cref="NotSupportedException">TorchSharp has no such element type.</exception>
    public Tensor Read(string name) => FileOf(name).Read(name);

    /// <summary>Closes the files. Tensors that were read stay.</summary>
    public void Dispose()
    {
        foreach (SafetensorsReader file in _files)
            file.Dispose();
    }

    /// <summary>
    /// Writes a model's weights: one file, or several with an index when there are more bytes than one may have. Each file appears complete or not at
    /// all, the index last; an interruption over an earlier save can leave files of both. Shards of an earlier save that are no longer part of
    /// the model are removed.
    /// </summary>
    /// <param name="folder">The folder; it is made when missing.</param>
    /// <param name="tensors">Tensors by name, on any device. They are distributed in this order.</param>
    /// <param name="maxFileBytes">Bytes of tensors that a file may have; a larger tensor has a file of its own. Default: 5 GB, as Hugging Face.</param>
    /// <exception cref="ArgumentException">A name is empty, reserved or there twice.</exception>
    /// <exception cref="NotSupportedException">A tensor's type has no place in the format.</exception>
    /// <exception cref="IOException">A file cannot be written.</exception>
    public static void Save(string folder, IEnumerable<KeyValuePair<string, Tensor>> tensors, long maxFileBytes = 5_000_000_000)
    {
        ArgumentException.ThrowIfNullOrEmpty(folder);
        ArgumentNullException.ThrowIfNull(tensors);
        ArgumentOutOfRangeException.ThrowIfLessThan(maxFileBytes, 1);

        var shards = new List<List<KeyValuePair<string, Tensor>>> { new() };
        var names = new HashSet<string>(StringComparer.Ordinal);
        long bytes = 0, total = 0;
        foreach ((string name, Tensor tensor) in tensors)
        {
            if (!names.Add(name))
                throw new ArgumentException($"The name '{name}' is there twice.", nameof(tensors));
            long own = tensor.numel() * SafetensorsDType.Of(tensor.dtype).Size;
            if (shards[^1].Count > 0 && bytes + own > maxFileBytes)
            {
                shards.Add([]);
                bytes = 0;
            }
            shards[^1].Add(new(name, tensor));
            bytes += own;
            total += own;
        }

        Directory.CreateDirectory(folder);
        var metadata = new Dictionary<string, string> { ["format"] = "pt" };
        string[] files = shards.Count == 1
            ? [FileName]
            : [.. Enumerable.Range(1, shards.Count).Select(i => string.Create(CultureInfo.InvariantCulture, $"model-{i:D5}-of-{shards.Count:D5}.safetensors"))];
        for (int i = 0; i < shards.Count; i++)
            SafetensorsFile.Save(Path.Combine(folder, files[i]), shards[i], metadata);
        if (shards.Count > 1)
        {
            AtomicFile.Write(Path.Combine(folder, IndexFileName), stream => WriteIndex(stream, shards, files, total));
            File.Delete(Path.Combine(folder, FileName));
        }
        else
        {
            File.Delete(Path.Combine(folder, IndexFileName));
        }
        foreach (string old in Directory.GetFiles(folder))
        {
            string name = Path.GetFileName(old);
            if (ShardName().IsMatch(name) && !files.Contains(name))
                File.Delete(old);
        }
    }

    [GeneratedRegex(@"^model-\d{5}-of-\d{5}\.safetensors$", RegexOptions.CultureInvariant)]
    private static partial Regex ShardName();

    private static void WriteIndex(Stream stream, List<List<KeyValuePair<string, Tensor>>> shards, string[] files, long total)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer, new JsonWriterOptions { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            json.WriteStartObject("metadata");
            json.WriteNumber("total_size", total);
            json.WriteEndObject();
            json.WriteStartObject(WeightMapKey);
            foreach ((string name, string file) in shards.SelectMany((shard, i) => shard.Select(entry => (entry.Key, files[i]))).OrderBy(entry => entry.Key, StringComparer.Ordinal))
                json.WriteString(name, file);
            json.WriteEndObject();
            json.WriteEndObject();
        }
        stream.Write(buffer.WrittenSpan);
    }

    private static SafetensorsCheckpoint OpenShards(string folder, string index)
    {
        Dictionary<string, string> map = ReadIndex(index);
        var files = new Dictionary<string, SafetensorsReader>(StringComparer.Ordinal);
        try
        {
            var fileOf = new Dictionary<string, SafetensorsReader>(StringComparer.Ordinal);
            foreach ((string name, string file) in map)
            {
                if (!files.TryGetValue(file, out SafetensorsReader? reader))
                {
                    string path = Path.Combine(folder, file);
                    if (!File.Exists(path))
                        throw new FileNotFoundException($"'{index}' names the file '{file}', which is missing.", path);
                    files.Add(file, reader = SafetensorsReader.Open(path));
                }
                if (!reader.Contains(name))
                    throw new InvalidDataException($"'{index}' says that '{name}' is in '{file}', which has no such tensor.");
                fileOf.Add(name, reader);
            }
            return new SafetensorsCheckpoint([.. files.Values], fileOf);
        }
        catch
        {
            foreach (SafetensorsReader file in files.Values)
                file.Dispose();
            throw;
        }
    }

    private static Dictionary<string, string> ReadIndex(string path)
    {
        using FileStream stream = File.OpenRead(path);
        if (stream.Length > SafetensorsHeader.MaxHeaderBytes)
            throw Damaged(path, $"it has {stream.Length} bytes; at most {SafetensorsHeader.MaxHeaderBytes} are accepted");
        try
        {
            using var document = JsonDocument.Parse(stream, new JsonDocumentOptions { MaxDepth = 16 });
            if (document.RootElement.ValueKind != JsonValueKind.Object || !document.RootElement.TryGetProperty(WeightMapKey, out JsonElement map) || map.ValueKind != JsonValueKind.Object)
                throw Damaged(path, $"it has no {WeightMapKey}");
            var entries = new Dictionary<string, string>(StringComparer.Ordinal);
            foreach (JsonProperty property in map.EnumerateObject())
            {
                string? file = property.Value.ValueKind == JsonValueKind.String ? property.Value.GetString() : null;
                // Nothing outside the folder: an index comes from somewhere else, and the files it names are opened.
                if (string.IsNullOrEmpty(file) || file.AsSpan().ContainsAny("/\\:\0") || file is "." or "..")
                    throw Damaged(path, $"its {WeightMapKey} names {property.Value.GetRawText()} for '{property.Name}'; expected a file in the same folder");
                if (!entries.TryAdd(property.Name, file))
                    throw Damaged(path, $"its {WeightMapKey} has '{property.Name}' twice");
            }
            return entries;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new InvalidDataException($"'{path}' is not a valid index of safetensors files: it is not JSON ({e.Message}).", e);
        }
    }

    private static InvalidDataException Damaged(string path, string what) => new($"'{path}' is not a valid index of safetensors files: {what}.");

    private SafetensorsReader FileOf(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        return _fileOf.TryGetValue(name, out SafetensorsReader? file) ? file : throw new KeyNotFoundException($"The checkpoint has no tensor '{name}'.");
    }
}
