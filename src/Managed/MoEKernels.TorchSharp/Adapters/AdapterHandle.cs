using System.Collections.ObjectModel;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>A named adapter that <see cref="AdapterExtensions.AddAdapter(nn.Module, string, AdapterConfig)"/> put into a model.</summary>
/// <remarks>
/// <see cref="Remove"/> takes it out again and keeps its weights; <see cref="Dispose"/> also frees them. The handle belongs to the model: it is
/// collected with it, and forgetting it leaves the adapter in place.
/// </remarks>
public sealed class AdapterHandle : IDisposable
{
    private readonly List<SavedModule> _savedModules;
    private ModelAdapters? _owner;

    internal AdapterHandle(ModelAdapters owner, string name, AdapterConfig config, Dictionary<string, AdapterLinear> layers, List<SavedModule> savedModules)
    {
        _owner = owner;
        _savedModules = savedModules;
        Model = owner.Model;
        Name = name;
        Configuration = config;
        Layers = new ReadOnlyDictionary<string, AdapterLinear>(layers);
    }

    /// <summary>The adapter's name in its model; "default" unless another was given.</summary>
    public string Name { get; }

    /// <summary>The configuration that the adapter was made from.</summary>
    public AdapterConfig Configuration { get; }

    /// <summary>The adapter's modules by the path of the layer they wrap.</summary>
    public IReadOnlyDictionary<string, AdapterLinear> Layers { get; }

    /// <summary>The paths of the modules that <see cref="AdapterConfig.ModulesToSave"/> has named.</summary>
    public IReadOnlyList<string> SavedModulePaths => [.. _savedModules.Where(saved => !saved.BiasOnly).Select(saved => saved.Path)];

    /// <summary>Whether the adapter is in the model.</summary>
    public bool IsAttached => _owner is not null;

    /// <summary>Whether the adapter takes part, see <see cref="SetEnabled"/> and <see cref="AdapterExtensions.SetAdapter"/>.</summary>
    public bool IsEnabled { get; private set; } = true;

    /// <summary>Whether a layer's base weight contains the adapter at the moment, see <see cref="Merge"/>.</summary>
    public bool IsMerged
    {
        get
        {
            foreach (AdapterLinear layer in Layers.Values)
            {
                if (layer.IsMerged)
                    return true;
            }
            return false;
        }
    }

    /// <summary>The numbers of trainable and of all parameters.</summary>
    public AdapterReport Report
    {
        get
        {
            long own = AdapterParameters().Sum(entry => entry.parameter.numel());
            long inLayers = Layers.Values.Sum(layer => layer.AdapterParameters().Sum(entry => entry.parameter.numel()));
            long total = Model.parameters().Sum(parameter => parameter.numel());
            return new AdapterReport(Layers.Count, own, IsAttached ? total : total + inLayers);
        }
    }

    /// <summary>
    /// The trainable parameters, named <c>&lt;path of the layer&gt;.&lt;name in the module&gt;</c>, those of <see cref="AdapterConfig.ModulesToSave"/>
    /// and <see cref="AdapterConfig.Bias"/> last. Give them to an optimiser after any <c>to()</c>, which makes new ones.
    /// </summary>
    public IEnumerable<(string name, Parameter parameter)> AdapterParameters()
    {
        foreach ((string path, AdapterLinear layer) in Layers)
        {
            foreach ((string name, Parameter parameter) in layer.AdapterParameters())
                yield return ($"{path}.{name}", parameter);
        }
        foreach (SavedModule saved in _savedModules)
        {
            foreach ((string name, Parameter parameter) in saved.Parameters())
                yield return (name, parameter);
        }
    }

    /// <summary>
    /// The trainable parameters in groups with a learning rate each, for an optimiser that has such groups: LoRA+ (arXiv 2402.12354) trains B
    /// faster than A, see <see cref="LoRAConfig.LearningRateRatio"/>. Adapters without a ratio give one group.
    /// </summary>
    /// <param name="learningRate">Learning rate of all parameters that have no ratio of their own, finite and more than 0.</param>
    /// <exception cref="ArgumentOutOfRangeException">The learning rate is out of its range.</exception>
    public IReadOnlyList<AdapterParameterGroup> ParameterGroups(double learningRate)
    {
        if (!(learningRate > 0 && double.IsFinite(learningRate)))
            throw new ArgumentOutOfRangeException(nameof(learningRate), learningRate, "Expected a finite number above 0.");
        var groups = new SortedDictionary<double, List<Parameter>>();
        foreach (AdapterLinear layer in Layers.Values)
        {
            foreach ((string name, Parameter parameter) in layer.AdapterParameters())
                GroupOf(Configuration.LearningRateRatioOf(name)).Add(parameter);
        }
        foreach (SavedModule saved in _savedModules)
        {
            foreach ((_, Parameter parameter) in saved.Parameters())
                GroupOf(1).Add(parameter);
        }
        return [.. groups.Select(group => new AdapterParameterGroup(group.Key * learningRate, group.Value))];

        List<Parameter> GroupOf(double ratio)
        {
            if (!groups.TryGetValue(ratio, out List<Parameter>? group))
                groups.Add(ratio, group = []);
            return group;
        }
    }

    /// <summary>
    /// Switches the adapter's part on or off in every layer, and the values of its <see cref="AdapterConfig.ModulesToSave"/>. Unlike
    /// <see cref="AdapterExtensions.SetAdapter"/> it leaves alone which parameters require gradients.
    /// </summary>
    /// <param name="enabled">Whether the adapter takes part.</param>
    /// <exception cref="InvalidOperationException">The adapter is merged and to be switched off, or shares a module to save with another that takes part.</exception>
    public void SetEnabled(bool enabled)
    {
        if (_owner is not null)
            _owner.SetEnabled(this, enabled);
        else
            Switch(enabled, modelEnabled: false, trainable: null);
    }

    /// <summary>Chooses what computes the adapter in every layer, see <see cref="AdapterLinear.Implementation"/>.</summary>
    /// <param name="implementation">What computes it.</param>
    public void SetImplementation(AdapterImplementation implementation)
    {
        foreach (AdapterLinear layer in Layers.Values)
            layer.Implementation = implementation;
    }

    /// <summary>Merges the adapter into every layer or into none, see <see cref="IAdapterVariant.Merge"/>. It stays in the model.</summary>
    /// <exception cref="InvalidOperationException">A layer cannot merge it; the message names layer and reason.</exception>
    public void Merge()
    {
        ThrowIfDetached();
        ModelAdapters.Merge(this);
    }

    /// <summary>Takes the adapter out of the base weights again, see <see cref="IAdapterVariant.Unmerge"/>.</summary>
    /// <exception cref="InvalidOperationException">Another adapter that depends on the base weight would be left beside a merged one.</exception>
    public void Unmerge()
    {
        foreach (AdapterLinear layer in Layers.Values)
            layer.Unmerge();
    }

    /// <summary>Saves the adapter, see <see cref="AdapterExtensions.SaveAdapter(nn.Module, string)"/>.</summary>
    /// <param name="path">The safetensors file to write.</param>
    public void Save(string path) => AdapterFile.Save(this, path);

    /// <summary>
    /// Loads weights into this adapter. All tensors are checked before the first is changed.
    /// </summary>
    /// <param name="path">A safetensors file of the same kind of adapter on the same layers.</param>
    /// <exception cref="InvalidDataException">The file is damaged, or a tensor is missing, unknown, or of another shape.</exception>
    /// <exception cref="InvalidOperationException">The adapter is merged.</exception>
    public void Load(string path)
    {
        if (IsMerged)
            throw new InvalidOperationException($"The adapter '{Name}' is merged; unmerge it before other weights are loaded.");
        AdapterFile.LoadInto(this, path);
    }

    /// <summary>
    /// Takes the adapter out: its layers compute what they do without it, and modules to save have their values from before. With the model's last
    /// adapter the original layers come back to their places, and every parameter requires gradients again if it did before. Does nothing when it is
    /// out already. The adapter's weights stay alive.
    /// </summary>
    /// <exception cref="InvalidOperationException">A layer of the adapter has a merged adapter, this one or another.</exception>
    public void Remove() => _owner?.Remove(this);

    /// <summary>Takes the adapter out, and any that is merged beside it out of the base weights, and frees its weights.</summary>
    public void Dispose()
    {
        if (_owner is not null)
        {
            foreach (AdapterLinear layer in Layers.Values)
                layer.Layer.UnmergeAll();
            Remove();
        }
        foreach (AdapterLinear layer in Layers.Values)
            layer.Dispose();
        foreach (SavedModule saved in _savedModules)
            saved.Dispose();
        _savedModules.Clear();
    }

    internal nn.Module Model { get; }

    internal IReadOnlyList<SavedModule> SavedModules => _savedModules;

    /// <summary>The adapter's tensors, buffers and those of modules to save included, by their names in an adapter file.</summary>
    internal IEnumerable<(string Name, Tensor Tensor)> NamedTensors()
    {
        foreach ((string path, AdapterLinear layer) in Layers)
        {
            foreach ((string name, Tensor tensor) in layer.AdapterTensors())
                yield return ($"{path}.{name}", tensor);
        }
        foreach (SavedModule saved in _savedModules)
        {
            foreach ((string Name, Tensor Tensor) entry in saved.AdapterTensors())
                yield return entry;
        }
    }

    internal void Switch(bool on, bool modelEnabled, bool? trainable)
    {
        IsEnabled = on;
        foreach (AdapterLinear layer in Layers.Values)
        {
            layer.Enabled = on;
            if (trainable is { } train)
            {
                foreach ((_, Parameter parameter) in layer.AdapterParameters())
                    parameter.requires_grad = train;
            }
        }
        foreach (SavedModule saved in _savedModules)
        {
            if (IsAttached)
                saved.SetLive(on && modelEnabled);
            if (trainable is not { } train)
                continue;
            foreach ((_, Parameter parameter) in saved.Parameters())
                parameter.requires_grad = train;
        }
    }

    internal void OnDetached(bool keepSavedModules)
    {
        if (keepSavedModules)
        {
            foreach (SavedModule saved in _savedModules)
                saved.Keep();
        }
        _owner = null;
    }

    private void ThrowIfDetached()
    {
        if (_owner is null)
            throw new InvalidOperationException($"The adapter '{Name}' is in no model any more.");
    }
}
