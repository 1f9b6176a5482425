using System.Buffers.Binary;
using System.Text;

namespace MoEKernels.TorchSharp.Loading;

/// <summary>
/// Reads the symbol version tables of a 64-bit little-endian ELF shared library held in memory.
/// Every offset is checked against the file, so that a damaged file is an <see cref="InvalidDataException"/> and nothing worse.
/// </summary>
/// <remarks>Layouts: System V ABI, "ELF-64 Object File Format"; symbol versions: Linux Standard Base, "Symbol Versioning".</remarks>
internal sealed class ElfImage
{
    private const uint SectionRela = 4;
    private const uint SectionDynamicSymbols = 11;
    private const uint SectionVersionDefinitions = 0x6ffffffd;
    private const uint SectionVersionNeeds = 0x6ffffffe;
    private const uint SectionSymbolVersions = 0x6fffffff;

    /// <summary>The loader tolerates a missing version when this bit is set in <c>vna_flags</c>.</summary>
    private const ushort WeakFlag = 2;

    private readonly byte[] _bytes;
    private readonly List<Section> _sections = [];

    /// <summary>Reads the section headers of <paramref name="bytes"/>, which the image keeps and edits in place.</summary>
    /// <exception cref="InvalidDataException">The bytes are no 64-bit little-endian ELF file, or end too early.</exception>
    public ElfImage(byte[] bytes)
    {
        _bytes = bytes;

        ReadOnlySpan<byte> identity = Slice(0, 16, "ELF identification");
        if (!identity.StartsWith("\u007fELF"u8) || identity[4] != 2 || identity[5] != 1)
            throw new InvalidDataException("not a 64-bit little-endian ELF file");

        ulong headers = U64(0x28);
        ushort headerSize = U16(0x3a);
        ushort headerCount = U16(0x3c);
        if (headerSize < 64)
            throw new InvalidDataException($"section headers are {headerSize} bytes each, expected at least 64");
        if (headerCount == 0)
            throw new InvalidDataException("the section headers were stripped");

        for (int i = 0; i < headerCount; i++)
        {
            ulong header = headers + ((ulong)i * headerSize);
            _sections.Add(new Section(U32(header + 4), U64(header + 24), U64(header + 32), U32(header + 40), U32(header + 44)));
        }
    }

    /// <summary>The versions that this library asks of others, in file order.</summary>
    public IReadOnlyList<VersionNeed> VersionNeeds()
    {
        var needs = new List<VersionNeed>();
        foreach (Section section in SectionsOf(SectionVersionNeeds))
        {
            Section strings = LinkedSection(section);
            ulong record = section.Offset;
            for (uint remaining = section.Info; remaining > 0; remaining--)
            {
                string library = Text(strings, U32(record + 4));
                ulong entry = record + U32(record + 8);
                for (int count = U16(record + 2); count > 0; count--)
                {
                    needs.Add(new VersionNeed(library, Text(strings, U32(entry + 8)), U16(entry + 6), entry + 4));
                    if (!Advance(ref entry, U32(entry + 12))) break;
                }

                if (!Advance(ref record, U32(record + 12))) break;
            }
        }

        return needs;
    }

    /// <summary>The names of the versions that this library offers to others.</summary>
    public IReadOnlySet<string> VersionDefinitions()
    {
        var names = new HashSet<string>(StringComparer.Ordinal);
        foreach (Section section in SectionsOf(SectionVersionDefinitions))
        {
            Section strings = LinkedSection(section);
            ulong record = section.Offset;
            for (uint remaining = section.Info; remaining > 0; remaining--)
            {
                // The first auxiliary record is the version's own name, those after it are its predecessors.
                if (U16(record + 6) > 0)
                    names.Add(Text(strings, U32(record + U32(record + 12))));

                if (!Advance(ref record, U32(record + 16))) break;
            }
        }

        return names;
    }

    /// <summary>
    /// The names of the symbols bound to <paramref name="need"/> that some relocation refers to.
    /// Only when there is none can the library do without that version.
    /// </summary>
    public IReadOnlyList<string> SymbolsInUse(VersionNeed need)
    {
        Section symbols = Single(SectionDynamicSymbols, "dynamic symbol table");
        Section versions = Single(SectionSymbolVersions, "symbol version table");
        Section strings = LinkedSection(symbols);

        var used = new SortedSet<uint>();
        foreach (Section relocations in SectionsOf(SectionRela))
        {
            for (ulong at = 0; at + 24 <= relocations.Size; at += 24)
            {
                uint symbol = U32(relocations.Offset + at + 12);
                // The top bit of a version index marks a hidden symbol.
                if (symbol != 0 && (U16(versions.Offset + (symbol * 2UL)) & 0x7fff) == need.Index)
                    used.Add(symbol);
            }
        }

        return [.. used.Select(symbol => Text(strings, U32(symbols.Offset + (symbol * 24UL))))];
    }

    /// <summary>Marks <paramref name="need"/> as weak: the loader then accepts a library that does not offer the version.</summary>
    public void MakeWeak(VersionNeed need)
    {
        ushort flags = U16(need.FlagsOffset);
        BinaryPrimitives.WriteUInt16LittleEndian(_bytes.AsSpan((int)need.FlagsOffset), (ushort)(flags | WeakFlag));
    }

    /// <summary>Whether <paramref name="need"/> is marked as weak.</summary>
    public bool IsWeak(VersionNeed need) => (U16(need.FlagsOffset) & WeakFlag) != 0;

    private IEnumerable<Section> SectionsOf(uint type) => _sections.Where(section => section.Type == type);

    private Section Single(uint type, string name)
        => SectionsOf(type).Cast<Section?>().FirstOrDefault() ?? throw new InvalidDataException($"the {name} is missing");

    private Section LinkedSection(Section section)
        => section.Link < _sections.Count
            ? _sections[(int)section.Link]
            : throw new InvalidDataException($"section link {section.Link} is outside the {_sections.Count} sections");

    /// <summary>Follows a record's link; zero ends the chain, and one that points into the record itself is damage.</summary>
    private static bool Advance(ref ulong record, uint distance)
    {
        if (distance is > 0 and < 16)
            throw new InvalidDataException($"the version record at offset 0x{record:x} links to itself");
        record += distance;
        return distance != 0;
    }

    private string Text(Section strings, uint offset)
    {
        if (offset >= strings.Size)
            throw new InvalidDataException($"string offset {offset} is outside its table of {strings.Size} bytes");
        ReadOnlySpan<byte> rest = Slice(strings.Offset, strings.Size, "string table")[(int)offset..];
        int length = rest.IndexOf((byte)0);
        return length >= 0
            ? Encoding.UTF8.GetString(rest[..length])
            : throw new InvalidDataException($"the string at offset {offset} has no end");
    }

    private ushort U16(ulong offset) => BinaryPrimitives.ReadUInt16LittleEndian(Slice(offset, 2, "field"));

    private uint U32(ulong offset) => BinaryPrimitives.ReadUInt32LittleEndian(Slice(offset, 4, "field"));

    private ulong U64(ulong offset) => BinaryPrimitives.ReadUInt64LittleEndian(Slice(offset, 8, "field"));

    private ReadOnlySpan<byte> Slice(ulong offset, ulong length, string what)
    {
        ulong size = (ulong)_bytes.Length;
        if (length > size || offset > size - length)
            throw new InvalidDataException($"{what} of {length} bytes at offset 0x{offset:x} is outside the file of {size} bytes");
        return _bytes.AsSpan((int)offset, (int)length);
    }

    private readonly record struct Section(uint Type, ulong Offset, ulong Size, uint Link, uint Info);
}

/// <summary>One version that a library asks of another one.</summary>
/// <param name="Library">The other library's SONAME, for example <c>libstdc++.so.6</c>.</param>
/// <param name="Name">The version's name, for example <c>GLIBCXX_3.4.32</c>.</param>
/// <param name="Index">The number under which the symbol version table refers to it.</param>
/// <param name="FlagsOffset">Where its flags are in the file.</param>
internal readonly record struct VersionNeed(string Library, string Name, ushort Index, ulong FlagsOffset);
