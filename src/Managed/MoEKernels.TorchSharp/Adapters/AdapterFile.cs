using System.Text.Json;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>Adapters as safetensors files: PEFT's tensor names, the configuration as JSON in the metadata.</summary>
internal static class AdapterFile
{
    private const string ConfigurationKey = "adapter_config";
    private const string PeftPrefix = "base_model.model.";

    public static void Save(AdapterHandle handle, string path)
    {
        var metadata = new Dictionary<string, string>
        {
            ["format"] = "pt",
            [ConfigurationKey] = JsonSerializer.Serialize(handle.Configuration),
        };
        SafetensorsFile.Save(path, TensorsOf(handle).ToDictionary(entry => PeftPrefix + entry.Key, entry => entry.Value), metadata);
    }

    public static AdapterConfig ReadConfiguration(string path)
    {
        if (!SafetensorsFile.ReadMetadata(path).TryGetValue(ConfigurationKey, out string? json))
            throw new InvalidDataException($"'{path}' holds no adapter configuration; add the adapter to the model first, then load the weights into it.");
        try
        {
            AdapterConfig? config = JsonSerializer.Deserialize<AdapterConfig>(json);
            return config ?? throw new JsonException("it is null");
        }
        catch (Exception e) when (e is JsonException or NotSupportedException)
        {
            throw new InvalidDataException($"'{path}' holds an adapter configuration that cannot be read: {e.Message}", e);
        }
    }

    public static void LoadInto(AdapterHandle handle, string path)
    {
        IReadOnlyDictionary<string, Tensor> loaded = SafetensorsFile.Load(path);
        try
        {
            Dictionary<string, Tensor> source = loaded.ToDictionary(entry => WithoutPrefix(entry.Key), entry => entry.Value, StringComparer.Ordinal);
            Dictionary<string, Tensor> target = TensorsOf(handle);
            Check(source, target, path);
            using var noGrad = no_grad();
            // What an adapter has taken out of its base weight belongs to the values that it has, so it goes back before and out again after.
            foreach (AdapterLinear layer in handle.Layers.Values)
                layer.LeaveBase();
            foreach ((string name, Tensor tensor) in target)
                tensor.copy_(source[name]);
            if (!handle.IsAttached)
                return;
            foreach (AdapterLinear layer in handle.Layers.Values)
                layer.EnterBase();
        }
        finally
        {
            foreach (Tensor tensor in loaded.Values)
                tensor.Dispose();
        }
    }

    private static void Check(Dictionary<string, Tensor> source, Dictionary<string, Tensor> target, string path)
    {
        foreach ((string name, Tensor expected) in target)
        {
            if (!source.TryGetValue(name, out Tensor? got))
                throw new InvalidDataException($"'{path}' has no tensor '{name}'; expected one of shape {Shape(expected)}.");
            if (!got.shape.AsSpan().SequenceEqual(expected.shape))
                throw new InvalidDataException($"'{path}': the tensor '{name}' has shape {Shape(got)}; expected {Shape(expected)}.");
            if (!TensorTypes.IsSupported(got.dtype))
                throw new InvalidDataException($"'{path}': the tensor '{name}' is {got.dtype}; expected a floating-point type.");
        }
        string[] unknown = [.. source.Keys.Where(name => !target.ContainsKey(name)).Order(StringComparer.Ordinal)];
        if (unknown.Length > 0)
            throw new InvalidDataException($"'{path}' has {unknown.Length} tensor(s) that the model's adapter does not know, the first is '{unknown[0]}'.");
    }

    private static Dictionary<string, Tensor> TensorsOf(AdapterHandle handle) =>
        handle.NamedTensors().ToDictionary(entry => entry.Name, entry => entry.Tensor, StringComparer.Ordinal);

    private static string WithoutPrefix(string name) => name.StartsWith(PeftPrefix, StringComparison.Ordinal) ? name[PeftPrefix.Length..] : name;

    private static string Shape(Tensor tensor) => $"[{string.Join(", ", tensor.shape)}]";
}
