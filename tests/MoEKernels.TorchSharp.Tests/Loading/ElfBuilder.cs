using System.Buffers.Binary;
using System.Text;

namespace MoEKernels.TorchSharp.Tests.Loading;

/// <summary>
/// Writes the smallest ELF shared library that has symbol versions: it asks <c>librt.so.1</c> for <c>V_OLD</c> and <c>V_NEW</c>,
/// offers <c>OWN_1</c>, and has one undefined symbol of each wanted version.
/// </summary>
internal static class ElfBuilder
{
    public const string Runtime = "librt.so.1";

    /// <param name="newSymbolIsUsed">Whether a relocation refers to the symbol of <c>V_NEW</c>.</param>
    public static byte[] Build(bool newSymbolIsUsed)
    {
        var strings = new StringTable();
        byte[] symbols = new byte[3 * 24];
        Put32(symbols, 24, strings.Add("old_symbol"));
        Put32(symbols, 48, strings.Add("new_symbol"));

        byte[] symbolVersions = new byte[3 * 2];
        Put16(symbolVersions, 2, 2);
        Put16(symbolVersions, 4, 3);

        byte[] needs = new byte[3 * 16];
        Put16(needs, 0, 1);
        Put16(needs, 2, 2);
        Put32(needs, 4, strings.Add(Runtime));
        Put32(needs, 8, 16);
        Put16(needs, 16 + 6, 2);
        Put32(needs, 16 + 8, strings.Add("V_OLD"));
        Put32(needs, 16 + 12, 16);
        Put16(needs, 32 + 6, 3);
        Put32(needs, 32 + 8, strings.Add("V_NEW"));

        byte[] definitions = new byte[20 + 8];
        Put16(definitions, 0, 1);
        Put16(definitions, 6, 1);
        Put32(definitions, 12, 20);
        Put32(definitions, 20, strings.Add("OWN_1"));

        byte[] relocations = new byte[2 * 24];
        Put32(relocations, 12, 1);
        Put32(relocations, 24 + 12, newSymbolIsUsed ? 2u : 0u);

        (uint Type, uint Link, uint Info, byte[] Content)[] sections =
        [
            (0, 0, 0, []),
            (3, 0, 0, strings.ToArray()),
            (11, 1, 1, symbols),
            (0x6fffffff, 2, 0, symbolVersions),
            (0x6ffffffe, 1, 1, needs),
            (0x6ffffffd, 1, 1, definitions),
            (4, 2, 0, relocations),
        ];

        using var file = new MemoryStream();
        byte[] header = new byte[64];
        "\u007fELF"u8.CopyTo(header);
        header[4] = 2;
        header[5] = 1;
        Put32(header, 0x28, 64);
        Put16(header, 0x3a, 64);
        Put16(header, 0x3c, (ushort)sections.Length);
        file.Write(header);

        uint offset = 64 + (64 * (uint)sections.Length);
        foreach (var (type, link, info, content) in sections)
        {
            byte[] section = new byte[64];
            Put32(section, 4, type);
            Put32(section, 24, offset);
            Put32(section, 32, (uint)content.Length);
            Put32(section, 40, link);
            Put32(section, 44, info);
            file.Write(section);
            offset += (uint)content.Length;
        }

        foreach (var section in sections) file.Write(section.Content);
        return file.ToArray();
    }

    private static void Put16(byte[] bytes, int offset, ushort value)
        => BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(offset), value);

    private static void Put32(byte[] bytes, int offset, uint value)
        => BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(offset), value);

    private sealed class StringTable
    {
        private readonly List<byte> _bytes = [0];

        public uint Add(string text)
        {
            uint offset = (uint)_bytes.Count;
            _bytes.AddRange(Encoding.UTF8.GetBytes(text));
            _bytes.Add(0);
            return offset;
        }

        public byte[] ToArray() => [.. _bytes];
    }
}
