using System.Text;

using Microsoft.ML.Tokenizers;

namespace Llama;

/// <summary>Unicode's canonical composition, NFC: an e and a combining accent become one character.</summary>
internal sealed class CanonicalForm : Normalizer
{
    private const string Decomposed = "e\u0301";

    /// <summary>Makes a normalizer.</summary>
    /// <exception cref="UserException">The program runs without the Unicode tables, and would leave text as it is.</exception>
    public CanonicalForm()
    {
        if (Decomposed.Normalize(NormalizationForm.FormC).Length != 1)
            throw new UserException("the tokenizer normalises text to NFC, which .NET cannot do in invariant mode; install ICU and unset DOTNET_SYSTEM_GLOBALIZATION_INVARIANT");
    }

    /// <inheritdoc/>
    public override string Normalize(string original)
    {
        ArgumentNullException.ThrowIfNull(original);
        return original.IsNormalized(NormalizationForm.FormC) ? original : original.Normalize(NormalizationForm.FormC);
    }

    /// <inheritdoc/>
    public override string Normalize(ReadOnlySpan<char> original) => Normalize(original.ToString());
}
