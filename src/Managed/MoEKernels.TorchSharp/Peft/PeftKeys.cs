namespace MoEKernels.TorchSharp;

/// <summary>The names of tensors in PEFT's files: <c>base_model.model.&lt;path&gt;.lora_A.weight</c> and so on, without the adapter's name.</summary>
internal static class PeftKeys
{
    public const string Prefix = "base_model.model.";
    public const string A = "lora_A.weight";
    public const string B = "lora_B.weight";
    public const string ABias = "lora_A.bias";
    public const string BBias = "lora_B.bias";
    public const string Magnitude = "lora_magnitude_vector";
    public const string EmbeddingA = "lora_embedding_A";
    public const string EmbeddingB = "lora_embedding_B";
    public const string Router = "lora_router.weight";
    public const string LoadBias = "lora_biases";
    public const string CorePrefix = "lora_Cores.";
    public const string BaseLayer = "base_layer";

    /// <summary>The name, without <see cref="Prefix"/>, of the bias of an adapted layer: PEFT keeps the layer inside of its own.</summary>
    public static string BaseBias(string path) => $"{path}.{BaseLayer}.bias";

    /// <summary>The key without <see cref="Prefix"/>; some tools write keys without it.</summary>
    public static string WithoutPrefix(string key) => key.StartsWith(Prefix, StringComparison.Ordinal) ? key[Prefix.Length..] : key;

    /// <summary>Splits the key of a tensor of an adapter into the path of the layer and the part's name.</summary>
    /// <returns>False for any other tensor, such as one of a module that is saved as a whole.</returns>
    public static bool TrySplit(string key, out string path, out string part)
    {
        string name = WithoutPrefix(key);
        int at = name.LastIndexOf(".lora_", StringComparison.Ordinal);
        (path, part) = at > 0 ? (name[..at], name[(at + 1)..]) : (string.Empty, string.Empty);
        // Versions before 0.10 of PEFT wrote the magnitude as a module's weight.
        if (part == Magnitude + ".weight")
            part = Magnitude;
        return at > 0;
    }

    public static string Of(string path, string part) => $"{Prefix}{path}.{part}";

    public static string Core(int expert) => FormattableString.Invariant($"{CorePrefix}{expert}");
}
