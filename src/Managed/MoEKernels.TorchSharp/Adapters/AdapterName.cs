namespace MoEKernels.TorchSharp;

/// <summary>What an adapter may be called.</summary>
internal static class AdapterName
{
    /// <summary>The name of an adapter that is added without one.</summary>
    public const string Default = "default";

    private static readonly string[] ReservedPrefixes = ["lora_", "hada_", "lokr_"];

    /// <summary>The name becomes part of names in <c>state_dict</c>, where it must not meet those of the adapters' tensors.</summary>
    public static void Check(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        bool isValid = name.Length > 0 && name != AdapterLinear.BaseLayerName;
        foreach (char c in name)
            isValid &= char.IsAsciiLetterOrDigit(c) || c is '_' or '-';
        foreach (string prefix in ReservedPrefixes)
            isValid &= !name.StartsWith(prefix, StringComparison.Ordinal);
        if (!isValid)
            throw new ArgumentException($"The adapter's name is '{name}'; expected letters, digits, '_' and '-', not '{AdapterLinear.BaseLayerName}' and not beginning with {string.Join(", ", ReservedPrefixes)}.", nameof(name));
    }
}
