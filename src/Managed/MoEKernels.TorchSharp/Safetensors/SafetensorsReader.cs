using System.IO.MemoryMappedFiles;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// A safetensors file, mapped into memory: opening reads the header alone, and each tensor's bytes are read from the disk when it is asked for.
/// </summary>
/// <remarks>
/// <para>
/// Files are read defensively. Checked on opening, before memory for it is taken: the header's length (at most 100 MB, and within the file), that it
/// is UTF-8 and JSON of small depth, that no name or field is there twice, types, shapes, that every tensor's bytes are those of type and shape,
/// and that the tensors cover the rest of the file without overlap or gap. Tensors are copied out, so their alignment in the file does
/// not matter.
/// </para>
/// <para>
/// The file must not be shortened while it is open; this library's own writers replace files and never do that. Reading from several threads is safe.
/// </para>
/// </remarks>
public sealed class SafetensorsReader : IDisposable
{
    // A span ends at 2 GiB, so longer tensors go through in pieces.
    internal const int PieceBytes = 1 << 28;

    private readonly MemoryMappedFile _file;
    private readonly MemoryMappedViewAccessor _view;
    private readonly SafetensorsHeader _header;
    private readonly Dictionary<string, SafetensorsEntry> _byName;

    private SafetensorsReader(string path, MemoryMappedFile file, MemoryMappedViewAccessor view, SafetensorsHeader header)
    {
        Path = path;
        _file = file;
        _view = view;
        _header = header;
        _byName = header.Entries.ToDictionary(entry => entry.Name, StringComparer.Ordinal);
    }

    /// <summary>The file.</summary>
    public string Path { get; }

    /// <summary>The tensors, in the order of their bytes.</summary>
    public IReadOnlyList<SafetensorsEntry> Entries => _header.Entries;

    /// <summary>The texts that the file carries beside its tensors.</summary>
    public IReadOnlyDictionary<string, string> Metadata => _header.Metadata;

    /// <summary>Opens a file and checks its header.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidDataException">It is not a valid safetensors file; the message names the file and what is wrong.</exception>
    /// <exception cref="IOException">It does not exist or cannot be read.</exception>
    public static SafetensorsReader Open(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        // Nobody can be kept from shortening the file everywhere, but Windows does it for this share mode.
        var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete);
        MemoryMappedFile? file = null;
        MemoryMappedViewAccessor? view = null;
        try
        {
            long length = stream.Length;
            // An empty file cannot be mapped.
            if (length < SafetensorsHeader.PrefixBytes)
                SafetensorsHeader.ReadLength([], length, path);
            file = MemoryMappedFile.CreateFromFile(stream, null, 0, MemoryMappedFileAccess.Read, HandleInheritability.None, leaveOpen: false);
            view = file.CreateViewAccessor(0, length, MemoryMappedFileAccess.Read);
            SafetensorsHeader header = ReadHeader(view, length, path);
            return new SafetensorsReader(path, file, view, header);
        }
        catch
        {
            view?.Dispose();
            file?.Dispose();
            stream.Dispose();
            throw;
        }
    }

    /// <summary>Whether the file has a tensor of that name.</summary>
    /// <param name="name">Name of the tensor.</param>
    public bool Contains(string name) => _byName.ContainsKey(name);

    /// <summary>What the file says of a tensor.</summary>
    /// <param name="name">Name of the tensor.</param>
    /// <exception cref="KeyNotFoundException">The file has no such tensor.</exception>
    public SafetensorsEntry Describe(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        return _byName.TryGetValue(name, out SafetensorsEntry? entry) ? entry : throw new KeyNotFoundException($"'{Path}' has no tensor '{name}'.");
    }

    /// <summary>Reads one tensor into host memory.</summary>
    /// <param name="name">Name of the tensor.</param>
    /// <returns>A new tensor, in the current DisposeScope if there is one.</returns>
    /// <exception cref="KeyNotFoundException">The file has no such tensor.</exception>
    /// <exception cref="NotSupportedException">TorchSharp has no such element type.</exception>
    public Tensor Read(string name)
    {
        ObjectDisposedException.ThrowIf(_view.SafeMemoryMappedViewHandle.IsClosed, this);
        SafetensorsEntry entry = Describe(name);
        Tensor tensor = Allocate(entry, Path);
        CopyTo(entry, tensor);
        return tensor;
    }

    /// <summary>Reads all tensors into host memory.</summary>
    /// <returns>The tensors by name. They are the caller's to dispose and belong to no DisposeScope.</returns>
    /// <exception cref="NotSupportedException">TorchSharp has no such element type.</exception>
    public IReadOnlyDictionary<string, Tensor> ReadAll() => LoadAll(Entries, entry => Read(entry.Name));

    /// <summary>Closes the file. Tensors that were read stay.</summary>
    public void Dispose()
    {
        _view.Dispose();
        _file.Dispose();
    }

    internal static Tensor Allocate(SafetensorsEntry entry, string source) =>
        entry.ScalarType is { } type
            ? empty(entry.Shape.ToArray(), dtype: type, device: CPU)
            : throw new NotSupportedException($"'{source}': the tensor '{entry.Name}' is {entry.DType}, which TorchSharp does not have; expected one of {SafetensorsDType.Names}.");

    internal static Dictionary<string, Tensor> LoadAll(IEnumerable<SafetensorsEntry> entries, Func<SafetensorsEntry, Tensor> read)
    {
        var tensors = new Dictionary<string, Tensor>(StringComparer.Ordinal);
        try
        {
            foreach (SafetensorsEntry entry in entries)
                tensors.Add(entry.Name, read(entry).DetachFromDisposeScope());
        }
        catch
        {
            foreach (Tensor tensor in tensors.Values)
                tensor.Dispose();
            throw;
        }
        return tensors;
    }

    private static unsafe SafetensorsHeader ReadHeader(MemoryMappedViewAccessor view, long length, string path)
    {
        byte* address = null;
        view.SafeMemoryMappedViewHandle.AcquirePointer(ref address);
        try
        {
            byte* start = address + view.PointerOffset;
            int header = SafetensorsHeader.ReadLength(new ReadOnlySpan<byte>(start, SafetensorsHeader.PrefixBytes), length, path);
            var json = new ReadOnlySpan<byte>(start + SafetensorsHeader.PrefixBytes, header);
            return SafetensorsHeader.Parse(json, length - SafetensorsHeader.PrefixBytes - header, path);
        }
        finally
        {
            view.SafeMemoryMappedViewHandle.ReleasePointer();
        }
    }

    private unsafe void CopyTo(SafetensorsEntry entry, Tensor tensor)
    {
        if (entry.Length == 0)
            return;
        byte* address = null;
        _view.SafeMemoryMappedViewHandle.AcquirePointer(ref address);
        try
        {
            byte* source = address + _view.PointerOffset + _header.DataStart + entry.Begin;
            Buffer.MemoryCopy(source, (void*)TensorPointer.Of(tensor), entry.Length, entry.Length);
        }
        finally
        {
            _view.SafeMemoryMappedViewHandle.ReleasePointer();
        }
        GC.KeepAlive(tensor);
    }
}
