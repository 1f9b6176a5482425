using System.Text.RegularExpressions;

using Microsoft.ML.Tokenizers;

namespace Llama;

/// <summary>Turns text into a model's tokens and back.</summary>
/// <param name="tokenizer">The tokenizer of the package.</param>
/// <param name="beginning">The tokens that are put before every text.</param>
/// <param name="vocabulary">The tokens that the model knows.</param>
internal sealed class TextTokenizer(Tokenizer tokenizer, IReadOnlyList<int> beginning, int vocabulary)
{
    /// <summary>The tokens of a text, with those before it that the model is used to.</summary>
    /// <param name="text">The text.</param>
    /// <exception cref="UserException">The model does not know a token of it.</exception>
    public IReadOnlyList<int> Encode(string text)
    {
        try
        {
            List<int> tokens = [.. beginning, .. tokenizer.EncodeToIds(text)];
            int index = tokens.FindIndex(token => token < 0 || token >= vocabulary);
            return index < 0
                ? tokens
                : throw new UserException($"the tokenizer gives token {tokens[index]}, but the model's vocab_size is {vocabulary}");
        }
        catch (RegexMatchTimeoutException failure)
        {
            throw new UserException($"the tokenizer's expression '{failure.Pattern}' takes too long on this text", failure);
        }
    }

    /// <summary>The text of tokens; where they end within a character, that character is a replacement mark.</summary>
    /// <param name="tokens">The tokens.</param>
    public string Decode(IEnumerable<int> tokens) => tokenizer.Decode(tokens);
}
