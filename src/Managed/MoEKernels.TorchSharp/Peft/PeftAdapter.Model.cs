using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

public sealed partial class PeftAdapter
{
    // Our modules hold CoMoL's cores in one tensor.
    private const string CoresSuffix = ".lora_C";

    /// <summary>Adds the adapter to a model: new modules on exactly the adapter's layers, with its values.</summary>
    /// <remarks>
    /// The values are copied; they become f32 below a half-precision base layer. With <c>init_lora_weights</c> "pissa" or "olora" the part of the base weight that
    /// the factors started as is computed and taken out of it, as PEFT does when it loads such an adapter: the model must have the weights that it was trained on. CoMoL's files do not tell the merged core's dropout, which the authors'
    /// code also applies; it is off here, see <see cref="CoMoLConfig.MergedCoreDropout"/>.
    /// </remarks>
    /// <param name="model">The model. Its paths are those of the adapter without <c>base_model.model.</c></param>
    /// <param name="name">The adapter's name in the model.</param>
    /// <returns>The adapter's handle.</returns>
    /// <exception cref="InvalidDataException">The model lacks a layer or module of the adapter, or one has another shape. The model is as it was then.</exception>
    /// <exception cref="NotSupportedException">The adapter has something that this library's modules do not compute; the message names the field.</exception>
    /// <exception cref="InvalidOperationException">
    /// The model has an adapter of that name, a field cannot hold one, or another adapter has taken a part of a base weight that "pissa" or "olora" start from.
    /// </exception>
    public AdapterHandle Apply(nn.Module model, string name = AdapterName.Default)
    {
        ArgumentNullException.ThrowIfNull(model);
        AdapterName.Check(name);
        AdapterConfig config = PeftConversion.ToAdapterConfig(this);
        var linears = model.named_modules().Where(entry => entry.module is global::TorchSharp.Modules.Linear or AdapterLinear or AdaptedLinear).Select(entry => entry.name).ToHashSet(StringComparer.Ordinal);
        if (_layers.Keys.FirstOrDefault(path => !linears.Contains(path)) is { } missing)
            throw new InvalidDataException($"The model has no Linear layer '{missing}', which the adapter has; its layers are {string.Join(", ", linears.Order(StringComparer.Ordinal).Take(40))}.");
        if (config is LoRAConfig { TakesFromBase: true })
            ThrowIfBaseIsChanged(model);
        AdapterHandle handle = model.AddAdapter(name, config);
        try
        {
            CopyInto(handle);
            return handle;
        }
        catch
        {
            handle.Dispose();
            throw;
        }
    }

    /// <summary>A copy of an adapter in a model, in host memory.</summary>
    /// <param name="handle">The adapter.</param>
    /// <exception cref="NotSupportedException">The method has no form in PEFT's files here.</exception>
    public static PeftAdapter Extract(AdapterHandle handle)
    {
        ArgumentNullException.ThrowIfNull(handle);
        PeftConfig config = PeftConversion.ToPeftConfig(handle.Configuration, handle.Layers.Keys);
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var tensors = new Dictionary<string, Tensor>(StringComparer.Ordinal);
        if (handle.Configuration is LoRAConfig { TakesFromBase: true } && handle.Layers.FirstOrDefault(entry => entry.Value.Layer.Adapters.Count(adapter => adapter is SpectralLoRALinear) > 1) is { Key: { } shared })
            throw new NotSupportedException($"Several adapters have taken parts of the base weight of '{shared}', and PEFT would start each from the whole; {nameof(ExtractAsLora)} writes it as a plain LoRA.");
        foreach ((string name, Tensor tensor) in handle.NamedTensors())
        {
            if (IsInitial(name))
                continue;
            if (handle.Configuration is CoMoLConfig && name.EndsWith(CoresSuffix, StringComparison.Ordinal))
            {
                string path = name[..^CoresSuffix.Length];
                for (int e = 0; e < tensor.size(0); e++)
                    tensors.Add(PeftKeys.Of(path, PeftKeys.Core(e)), tensor[e].detach().cpu().clone());
            }
            else
            {
                tensors.Add(PeftKeys.Prefix + (LayerOfBias(handle, name) is { } path ? PeftKeys.BaseBias(path) : name), tensor.detach().cpu().clone());
            }
        }
        return new PeftAdapter(config, tensors);
    }

    /// <summary>
    /// A copy of an adapter in a model as one plain LoRA for the original model, in host memory, which PEFT and every server of LoRA adapters read: CAT with its weights in B, of
    /// the sum of the ranks; PiSSA, MiLoRA and OLoRA as s (B A - B_0 A_0), of twice the rank; LoRA and rsLoRA as <see cref="Extract"/> gives them.
    /// </summary>
    /// <param name="handle">The adapter.</param>
    /// <exception cref="NotSupportedException">The adapter is not a pair of factors, or it also trains modules as a whole.</exception>
    public static PeftAdapter ExtractAsLora(AdapterHandle handle)
    {
        ArgumentNullException.ThrowIfNull(handle);
        if (handle.Configuration is LoRAConfig { TakesFromBase: false, UseDora: false })
            return Extract(handle);
        if (handle.SavedModules is [var saved, ..])
            throw new NotSupportedException($"The adapter also trains {saved.Subject}, which is no part of a plain LoRA.");
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var tensors = new Dictionary<string, Tensor>(StringComparer.Ordinal);
        var ranks = new SortedDictionary<string, long>(StringComparer.Ordinal);
        foreach ((string path, AdapterLinear layer) in handle.Layers)
        {
            (Tensor a, Tensor b) = layer switch
            {
                CatLinear cat => cat.AsOne(),
                SpectralLoRALinear spectral => spectral.AsOne(),
                _ => throw new NotSupportedException($"A {layer.GetName()} is not one LoRA; expected {nameof(LoRALinear)}, {nameof(SpectralLoRALinear)} or {nameof(CatLinear)}."),
            };
            ranks.Add(path, a.size(0));
            tensors.Add(PeftKeys.Of(path, PeftKeys.A), a.detach().cpu().clone());
            tensors.Add(PeftKeys.Of(path, PeftKeys.B), b.detach().cpu().clone());
        }
        var config = new PeftConfig { Dropout = handle.Configuration.Dropout, TargetModules = PeftModules.FromNames(ranks.Keys) };
        return new PeftAdapter(PeftMath.WithRanks(config, ranks), tensors);
    }

    /// <summary>The adapted layer whose bias a tensor of the handle is; null: it is another tensor.</summary>
    private static string? LayerOfBias(AdapterHandle handle, string name)
    {
        const string Suffix = $".{TargetSearch.BiasName}";
        return name.EndsWith(Suffix, StringComparison.Ordinal) && handle.Layers.ContainsKey(name[..^Suffix.Length]) ? name[..^Suffix.Length] : null;
    }

    private static bool IsInitial(string name) =>
        name.EndsWith($".{SpectralLoRALinear.InitialAName}", StringComparison.Ordinal) || name.EndsWith($".{SpectralLoRALinear.InitialBName}", StringComparison.Ordinal);

    private void ThrowIfBaseIsChanged(nn.Module model)
    {
        foreach (AdapterHandle other in model.Adapters())
        {
            if (_layers.Keys.FirstOrDefault(path => other.Layers.GetValueOrDefault(path) is SpectralLoRALinear) is { } path)
                throw new InvalidOperationException($"The adapter '{other.Name}' has taken a part of the base weight of '{path}', and this one starts from the whole; remove that one first.");
        }
    }

    private void CopyInto(AdapterHandle handle)
    {
        if (handle.Layers.Keys.FirstOrDefault(path => !_layers.ContainsKey(path)) is { } extra)
            throw new InvalidDataException($"The model's layer '{extra}' ends with the path of one of the adapter's layers, but the adapter has no tensors for it.");
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var source = new Dictionary<string, Tensor>(StringComparer.Ordinal);
        foreach ((string key, Tensor tensor) in _tensors)
        {
            bool isPart = PeftKeys.TrySplit(key, out string path, out string part);
            if (!isPart || !part.StartsWith(PeftKeys.CorePrefix, StringComparison.Ordinal))
                source.Add(isPart ? $"{path}.{part}" : PeftKeys.WithoutPrefix(key), tensor);
        }
        if (handle.Configuration is CoMoLConfig comol)
        {
            foreach (string path in _layers.Keys)
                source.Add(path + CoresSuffix, stack(Enumerable.Range(0, (int)comol.Experts).Select(e => Part(path, PeftKeys.Core(e))).ToArray()));
        }
        // What was taken from the base weight is what the module has just computed.
        var target = handle.NamedTensors().Where(entry => !IsInitial(entry.Name)).ToDictionary(entry => entry.Name, entry => entry.Tensor, StringComparer.Ordinal);
        foreach ((string name, Tensor tensor) in target)
        {
            if (LayerOfBias(handle, name) is { } layer)
            {
                // Old versions of PEFT write it beside the layer, or, with "lora_only", forget it: then the adapter has the model's.
                if (source.Remove(PeftKeys.BaseBias(layer), out Tensor? inside))
                    source[name] = inside;
                else if (Config.Bias == PeftBias.LoraOnly)
                    source.TryAdd(name, tensor);
            }
            if (!source.TryGetValue(name, out Tensor? got))
                throw new InvalidDataException($"The adapter has no tensor '{name}'; expected one of shape [{string.Join(", ", tensor.shape)}].");
            if (!got.shape.AsSpan().SequenceEqual(tensor.shape))
                throw new InvalidDataException($"The adapter's tensor '{name}' has shape [{string.Join(", ", got.shape)}]; expected [{string.Join(", ", tensor.shape)}].");
        }
        if (source.Keys.FirstOrDefault(name => !target.ContainsKey(name)) is { } unknown)
            throw new InvalidDataException($"The adapter has a tensor '{unknown}', for which the model has no place.");
        foreach ((string name, Tensor tensor) in target)
            tensor.copy_(source[name]);
    }

    private Tensor Part(string path, string part) => _tensors.TryGetValue(PeftKeys.Of(path, part), out Tensor? tensor) ? tensor : _tensors[$"{path}.{part}"];
}
