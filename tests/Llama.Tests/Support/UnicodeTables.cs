namespace Llama.Tests;

/// <summary>Qwen's tokenizers normalise text, which .NET cannot do where it runs without ICU.</summary>
internal static class UnicodeTables
{
    /// <summary>Leaves the test aside where there are none.</summary>
    public static void Require() =>
        Assume.That("e\u0301".Normalize(), Has.Length.EqualTo(1), ".NET runs in invariant mode");
}
