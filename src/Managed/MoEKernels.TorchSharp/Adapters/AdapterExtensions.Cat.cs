using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

public static partial class AdapterExtensions
{
    /// <summary>
    /// Adds finished LoRA adapters side by side as one adapter whose only trainable parameters are a weight for each of them and each layer (CAT of LoRA Soups, see
    /// <see cref="CatConfig"/>), in use at once. A few examples are enough to train them; <see cref="PeftAdapter.ExtractAsLora"/> then gives one plain LoRA.
    /// </summary>
    /// <param name="model">The model. Its paths are those of the adapters without <c>base_model.model.</c></param>
    /// <param name="name">The new adapter's name.</param>
    /// <param name="adapters">One or more LoRA or rsLoRA adapters; their tensors are copied. They may have different layers and ranks.</param>
    /// <returns>The adapter's handle.</returns>
    /// <exception cref="ArgumentException">There is no adapter, or widths of a layer differ.</exception>
    /// <exception cref="InvalidDataException">The model lacks a layer of an adapter, or one has another shape. The model is as it was then.</exception>
    /// <exception cref="InvalidOperationException">The model has an adapter of that name, or a merged one.</exception>
    /// <exception cref="NotSupportedException">An adapter is not a plain LoRA on linear layers.</exception>
    public static AdapterHandle AddCat(this nn.Module model, string name, IReadOnlyList<PeftAdapter> adapters)
    {
        ArgumentNullException.ThrowIfNull(model);
        IReadOnlyList<double>? ones = null;
        PeftMath.Check(adapters, ref ones, absent: 1);
        var layers = new SortedDictionary<string, List<PeftLayer>>(StringComparer.Ordinal);
        foreach (PeftLayer layer in adapters.SelectMany(adapter => adapter.Layers.Values))
        {
            if (layer.IsEmbedding)
                throw new NotSupportedException($"The layer '{layer.Path}' is an embedding; expected linear layers.");
            if (!layers.TryGetValue(layer.Path, out List<PeftLayer>? own))
                layers.Add(layer.Path, own = []);
            own.Add(layer);
        }
        if (layers.Count == 0)
            throw new ArgumentException("The adapters have no layer.", nameof(adapters));
        Dictionary<string, (long In, long Out)> widths = WidthsOf(model);
        foreach ((string path, List<PeftLayer> own) in layers)
        {
            if (!widths.TryGetValue(path, out (long In, long Out) width))
                throw new InvalidDataException($"The model has no Linear layer '{path}', which an adapter has; its layers are {string.Join(", ", widths.Keys.Order(StringComparer.Ordinal).Take(40))}.");
            foreach (PeftLayer layer in own)
            {
                if ((layer.InFeatures, layer.OutFeatures) != width)
                    throw new InvalidDataException($"The layer '{path}' maps {layer.InFeatures} to {layer.OutFeatures} features in an adapter and {width.In} to {width.Out} in the model.");
            }
        }
        AdapterHandle handle = model.AddAdapter(name, new CatConfig
        {
            // Whole paths: a name would also stand for every path that ends with it.
            TargetModules = [.. layers.Keys.Select(path => $"regex:{System.Text.RegularExpressions.Regex.Escape(path)}")],
            LayerRanks = layers.ToDictionary(entry => entry.Key, entry => (IReadOnlyList<long>)[.. entry.Value.Select(layer => layer.Rank)]),
        });
        foreach ((string path, AdapterLinear module) in handle.Layers)
            ((CatLinear)module).SetFactors(layers[path]);
        return handle;
    }

    private static Dictionary<string, (long In, long Out)> WidthsOf(nn.Module model)
    {
        var widths = new Dictionary<string, (long In, long Out)>(StringComparer.Ordinal);
        foreach ((string path, nn.Module module) in model.named_modules())
        {
            global::TorchSharp.Modules.Linear? linear = module switch
            {
                global::TorchSharp.Modules.Linear plain => plain,
                AdapterLinear adapter => adapter.BaseLayer,
                AdaptedLinear adapted => adapted.BaseLayer,
                _ => null,
            };
            if (linear is not null)
                widths.TryAdd(path, (linear.in_features, linear.out_features));
        }
        return widths;
    }
}
