namespace Llama;

/// <summary>The characters that byte-level vocabularies write bytes as: printable Latin-1 as itself, the other bytes as characters from 256 on.</summary>
internal static class ByteSymbols
{
    private static readonly char[] Symbols = Make();

    private static readonly Dictionary<char, byte> Bytes = Symbols.Index().ToDictionary(entry => entry.Item, entry => (byte)entry.Index);

    /// <summary>The character of a byte.</summary>
    public static char Of(byte value) => Symbols[value];

    /// <summary>The bytes that a token stands for; null: a character of it stands for none.</summary>
    public static byte[]? BytesOf(string token)
    {
        byte[] bytes = new byte[token.Length];
        for (int i = 0; i < bytes.Length; i++)
        {
            if (!Bytes.TryGetValue(token[i], out bytes[i]))
                return null;
        }

        return bytes;
    }

    private static char[] Make()
    {
        char[] symbols = new char[256];
        int next = 256;
        for (int value = 0; value < symbols.Length; value++)
        {
            bool isPrintable = value is (>= '!' and <= '~') or (>= 0xA1 and <= 0xAC) or (>= 0xAE and <= 0xFF);
            symbols[value] = isPrintable ? (char)value : (char)next++;
        }

        return symbols;
    }
}
