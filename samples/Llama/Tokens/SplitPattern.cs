namespace Llama;

/// <summary>The regular expressions by which known tokenizers cut text into the pieces that merges stay within.</summary>
internal static class SplitPattern
{
    /// <summary>GPT-2's; what a byte-level pre-tokenizer does where no other is given.</summary>
    public const string Gpt2 = @"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

    /// <summary>Llama 3's: up to three digits are a piece.</summary>
    public const string Llama3 = @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    /// <summary>That of Qwen 2 and 3: every digit is a piece.</summary>
    public const string Qwen2 = @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    /// <summary>Every digit by itself.</summary>
    public const string EachDigit = @"\p{N}";

    /// <summary>Digits that stand beside each other.</summary>
    public const string Digits = @"\p{N}+";
}
