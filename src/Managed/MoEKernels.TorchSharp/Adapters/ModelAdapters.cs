using System.Runtime.CompilerServices;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>The named adapters of one model: where they are, and which of them are in use.</summary>
internal sealed class ModelAdapters
{
    private static readonly ConditionalWeakTable<nn.Module, ModelAdapters> Models = [];

    private readonly nn.Module _model;
    private readonly List<AdapterHandle> _handles = [];
    private readonly List<AdaptedPlace> _places = [];
    private readonly Dictionary<string, bool> _requiredGrad;

    // What UseRows gave to the places, in their order; they cannot change meanwhile.
    private readonly List<LayerRows[]> _rowScopes = [];

    private ModelAdapters(nn.Module model)
    {
        _model = model;
        _requiredGrad = RequiredGradients(model);
    }

    public nn.Module Model => _model;

    public IReadOnlyList<AdapterHandle> Handles => _handles;

    /// <summary>False: the model computes what it does without adapters.</summary>
    public bool Enabled { get; private set; } = true;

    public static ModelAdapters? Of(nn.Module model) => Models.TryGetValue(model, out ModelAdapters? adapters) ? adapters : null;

    /// <summary>The model's adapters; throws when it has none.</summary>
    public static ModelAdapters Require(nn.Module model)
    {
        ArgumentNullException.ThrowIfNull(model);
        return Of(model) ?? throw new InvalidOperationException($"The model has no adapter; call {nameof(AdapterExtensions.AddAdapter)} first.");
    }

    /// <summary>Adds an adapter and makes it the only one in use. Nothing has changed when it throws.</summary>
    public static AdapterHandle Attach(nn.Module model, string name, AdapterConfig config)
    {
        AdapterName.Check(name);
        config.Validate();
        ModelAdapters adapters = Of(model) ?? new ModelAdapters(model);
        AdapterHandle handle = adapters.Attach(name, config);
        Models.AddOrUpdate(model, adapters);
        return handle;
    }

    public AdapterHandle Find(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        foreach (AdapterHandle handle in _handles)
        {
            if (handle.Name == name)
                return handle;
        }
        throw new ArgumentException($"The model has no adapter '{name}'; it has {Names()}.", nameof(name));
    }

    /// <summary>The adapter meant by a call without a name: the only one, or "default".</summary>
    public AdapterHandle Single()
    {
        if (_handles.Count == 1)
            return _handles[0];
        foreach (AdapterHandle handle in _handles)
        {
            if (handle.Name == AdapterName.Default)
                return handle;
        }
        throw new InvalidOperationException($"The model has the adapters {Names()}; say which is meant.");
    }

    public void SetActive(IReadOnlyCollection<AdapterHandle> active)
    {
        if (active.Count == 0)
            throw new ArgumentException($"No adapter is named; expected one or more of {Names()}. To switch all off: {nameof(AdapterExtensions.SetAdaptersEnabled)}.", nameof(active));
        ThrowIfSavedTwice(active);
        foreach (AdapterHandle handle in _handles)
        {
            if (!active.Contains(handle) && handle.IsMerged)
                throw new InvalidOperationException($"The adapter '{handle.Name}' is merged and cannot be switched off; unmerge it first.");
        }
        foreach (AdapterHandle handle in _handles)
        {
            if (!active.Contains(handle))
                handle.Switch(on: false, Enabled, trainable: false);
        }
        foreach (AdapterHandle handle in active)
            handle.Switch(on: true, Enabled, trainable: true);
    }

    public void SetEnabled(AdapterHandle handle, bool enabled)
    {
        if (enabled)
            ThrowIfSavedTwice([.. _handles.Where(other => other.IsEnabled && other != handle), handle]);
        else if (handle.IsMerged)
            throw new InvalidOperationException($"The adapter '{handle.Name}' is merged and cannot be switched off; unmerge it first.");
        handle.Switch(enabled, Enabled, trainable: null);
    }

    public void SetEnabled(bool enabled)
    {
        if (!enabled)
        {
            foreach (AdapterHandle handle in _handles)
            {
                if (handle.IsMerged)
                    throw new InvalidOperationException($"The adapter '{handle.Name}' is merged and cannot be switched off; unmerge it first.");
            }
        }
        Enabled = enabled;
        foreach (AdaptedPlace place in _places)
            place.Layer.SetEnabled(enabled);
        // Those that put values back first.
        foreach (AdapterHandle handle in _handles)
            handle.Switch(handle.IsEnabled, enabled, trainable: null);
    }

    /// <summary>Gives every row of a batch an adapter of its own until the result is disposed of.</summary>
    public IDisposable UseRows(IReadOnlyList<AdapterHandle?> rows)
    {
        if (rows.Count == 0)
            throw new ArgumentException("There is no row; expected one for every row of the batch.", nameof(rows));
        foreach (AdapterHandle? handle in rows)
        {
            if (handle is { SavedModules: [var saved, ..] })
                throw new InvalidOperationException($"The adapter '{handle.Name}' trains {saved.Subject}, of which there is one for all rows.");
        }
        foreach (AdapterHandle handle in _handles)
        {
            if (handle.IsMerged)
                throw new InvalidOperationException($"The adapter '{handle.Name}' is merged, so all rows would use it; unmerge it first.");
            if (handle.SavedModules is [var saved, ..] && saved.IsLive)
                throw new InvalidOperationException($"The adapter '{handle.Name}' is in use and trains {saved.Subject}, so all rows would use that; switch it off first.");
        }
        if (_model.training)
            throw new InvalidOperationException("The model is in training mode; rows with adapters of their own are for inference, call eval() first.");
        LayerRows[] scope = [.. _places.Select(place => new LayerRows(place.Layer, [.. rows.Select(handle => handle?.Layers.GetValueOrDefault(place.Path))]))];
        _rowScopes.Add(scope);
        PutRows();
        return new AdapterExtensions.Restore(() =>
        {
            _rowScopes.Remove(scope);
            PutRows();
            foreach (LayerRows layerRows in scope)
                layerRows.Dispose();
        });

        // The newest that is left, in whatever order they are disposed of.
        void PutRows()
        {
            for (int i = 0; i < _places.Count; i++)
                _places[i].Layer.Rows = _rowScopes.Count == 0 ? null : _rowScopes[^1][i];
        }
    }

    /// <summary>Merges an adapter into every layer, or into none.</summary>
    public static void Merge(AdapterHandle handle)
    {
        foreach ((string path, AdapterLinear adapter) in handle.Layers)
            Named(path, handle, () => { if (!adapter.IsMerged) adapter.Layer.ThrowIfCannotMerge(adapter); });
        foreach (AdapterLinear adapter in handle.Layers.Values)
            adapter.Merge();
    }

    public void MergeAndUnload(IReadOnlyList<AdapterHandle> chosen)
    {
        ThrowIfRowsInUse();
        if (chosen.Count == 0)
            throw new InvalidOperationException($"No adapter is in use, so there is nothing to merge; the model has {Names()}.");
        ThrowIfSavedTwice(chosen);
        foreach (AdapterHandle handle in chosen)
        {
            foreach ((string path, AdapterLinear adapter) in handle.Layers)
            {
                if (adapter.MergeObstacle is { } obstacle)
                    Named(path, handle, () => throw new InvalidOperationException(obstacle));
            }
        }
        foreach (AdaptedPlace place in _places)
        {
            if (AdaptersAt(place, chosen).Count(adapter => adapter.DependsOnBaseWeight) > 1)
                throw new InvalidOperationException($"'{place.Path}' has several adapters that depend on its base weight, so they have no common merged weight; merge one of them.");
        }

        foreach (AdaptedPlace place in _places)
        {
            IReadOnlyList<AdapterLinear> merged = AdaptersAt(place, chosen);
            place.Layer.UnmergeAll();
            using (no_grad())
            {
                foreach (AdapterLinear adapter in place.Layer.Adapters)
                {
                    if (!merged.Contains(adapter))
                        adapter.LeaveBase();
                }
            }
            place.Layer.MergeForever(merged);
            foreach (AdapterLinear adapter in place.Layer.Adapters.ToArray())
                adapter.Leave();
            place.Rebuild([]);
        }
        foreach (AdapterHandle handle in _handles)
        {
            if (!chosen.Contains(handle))
                handle.Switch(on: false, Enabled, trainable: null);
        }
        foreach (AdapterHandle handle in chosen)
            handle.Switch(on: true, modelEnabled: true, trainable: null);
        foreach (AdapterHandle handle in _handles)
            handle.OnDetached(keepSavedModules: chosen.Contains(handle));
        _handles.Clear();
        _places.Clear();
        Forget();
    }

    public void Remove(AdapterHandle handle)
    {
        ThrowIfRowsInUse();
        foreach ((string path, AdapterLinear adapter) in handle.Layers)
        {
            if (adapter.Layer.AnyMerged)
                throw new InvalidOperationException($"'{path}' has a merged adapter; unmerge it before the adapter '{handle.Name}' is removed.");
        }
        handle.Switch(on: false, Enabled, trainable: null);
        _handles.Remove(handle);
        for (int i = _places.Count - 1; i >= 0; i--)
        {
            AdaptedPlace place = _places[i];
            if (!handle.Layers.TryGetValue(place.Path, out AdapterLinear? adapter))
                continue;
            using (no_grad())
                adapter.LeaveBase();
            adapter.Leave();
            place.Rebuild(NamedAdaptersAt(place));
            if (place.Layer.IsEmpty)
                _places.RemoveAt(i);
        }
        handle.OnDetached(keepSavedModules: false);
        if (_handles.Count == 0)
            Forget();
    }

    private AdapterHandle Attach(string name, AdapterConfig config)
    {
        ThrowIfRowsInUse();
        foreach (AdapterHandle other in _handles)
        {
            if (other.Name == name)
                throw new InvalidOperationException($"The model has an adapter '{name}' already; remove it first or choose another name.");
            if (other.IsMerged)
                throw new InvalidOperationException($"The adapter '{other.Name}' is merged; unmerge it before another is added.");
        }
        var search = new TargetSearch(_model, config, _places, _handles);
        IReadOnlyList<(string Path, nn.Module Module)> savedTargets = search.FindSaved();
        List<(string Path, Linear Layer)> targets = search.FindTargets(savedTargets);

        // Everything that can fail happens before the model changes.
        Dictionary<string, bool> requiredGrad = RequiredGradients(_model);
        var layers = new Dictionary<string, AdapterLinear>();
        var newPlaces = new List<AdaptedPlace>();
        var saved = new List<SavedModule>();
        try
        {
            foreach ((string path, Linear layer) in targets)
            {
                AdapterConfig own = config.ForLayer(path);
                AdapterLinear adapter = Named(path, name, () => own.CreateModule(layer));
                layers.Add(path, adapter);
                adapter.train(layer.training);
                if (PlaceOf(layer) is { } existing)
                    ThrowIfBasesConflict(existing, adapter);
                else
                    newPlaces.Add(new AdaptedPlace(path, adapter.Layer, ModuleSurgery.FindPlaces(_model, layer, adapter.GetType(), path)));
            }
            foreach ((string path, nn.Module module) in savedTargets)
                saved.Add(new SavedModule(path, module));
            foreach ((string path, nn.Module module) in search.FindBiases(targets, savedTargets))
                saved.Add(new SavedModule(path, module, biasOnly: true));
        }
        catch
        {
            foreach (AdapterLinear adapter in layers.Values)
            {
                adapter.Unhost();
                adapter.Dispose();
            }
            foreach (SavedModule module in saved)
                module.Dispose();
            foreach ((string parameterName, Parameter parameter) in _model.named_parameters())
                parameter.requires_grad = requiredGrad[parameterName];
            throw;
        }

        foreach (Parameter parameter in _model.parameters())
            parameter.requires_grad = false;
        foreach ((string path, AdapterLinear adapter) in layers)
        {
            if (PlaceOf(adapter.BaseLayer) is { } place)
                adapter.Join(place.Layer);
        }
        _places.AddRange(newPlaces);
        var handle = new AdapterHandle(this, name, config, layers, saved);
        _handles.Add(handle);
        foreach (AdaptedPlace place in _places)
        {
            if (!layers.TryGetValue(place.Path, out AdapterLinear? adapter))
                continue;
            using (no_grad())
                adapter.EnterBase();
            place.Layer.SetEnabled(Enabled);
            place.Rebuild(NamedAdaptersAt(place));
        }
        SetActive([handle]);
        return handle;
    }

    private void ThrowIfRowsInUse()
    {
        if (_rowScopes.Count > 0)
            throw new InvalidOperationException($"The rows of a batch use different adapters; dispose of what {nameof(AdapterExtensions.UseAdapters)} returned before the model's adapters change.");
    }

    private static void ThrowIfBasesConflict(AdaptedPlace place, AdapterLinear added)
    {
        foreach (AdapterLinear other in place.Layer.Adapters)
        {
            if ((added is SpectralLoRALinear && other.DependsOnBaseWeight) || (other is SpectralLoRALinear && added.DependsOnBaseWeight))
                throw new InvalidOperationException($"'{place.Path}' cannot have a {added.GetName()} beside its {other.GetName()}: the one depends on the base weight, of which the other takes a part.");
        }
    }

    private AdaptedPlace? PlaceOf(Linear layer)
    {
        foreach (AdaptedPlace place in _places)
        {
            if (ReferenceEquals(place.Layer.BaseLayer, layer))
                return place;
        }
        return null;
    }

    private List<KeyValuePair<string, AdapterLinear>> NamedAdaptersAt(AdaptedPlace place)
    {
        var named = new List<KeyValuePair<string, AdapterLinear>>();
        foreach (AdapterHandle handle in _handles)
        {
            if (handle.Layers.TryGetValue(place.Path, out AdapterLinear? adapter))
                named.Add(new(handle.Name, adapter));
        }
        return named;
    }

    private static List<AdapterLinear> AdaptersAt(AdaptedPlace place, IReadOnlyList<AdapterHandle> handles)
    {
        var adapters = new List<AdapterLinear>();
        foreach (AdapterHandle handle in handles)
        {
            if (handle.Layers.TryGetValue(place.Path, out AdapterLinear? adapter))
                adapters.Add(adapter);
        }
        return adapters;
    }

    private static void ThrowIfSavedTwice(IReadOnlyCollection<AdapterHandle> handles)
    {
        var owners = new Dictionary<nint, string>();
        foreach (AdapterHandle handle in handles)
        {
            foreach (SavedModule saved in handle.SavedModules)
            {
                foreach ((_, Parameter parameter) in saved.Parameters())
                {
                    if (!owners.TryAdd(parameter.Handle, handle.Name) && owners[parameter.Handle] != handle.Name)
                        throw new InvalidOperationException($"The adapters '{owners[parameter.Handle]}' and '{handle.Name}' both train {saved.Subject}, so they cannot be in use together.");
                }
            }
        }
    }

    private void Forget()
    {
        foreach ((string name, Parameter parameter) in _model.named_parameters())
        {
            if (_requiredGrad.TryGetValue(name, out bool required))
                parameter.requires_grad = required;
        }
        Models.Remove(_model);
    }

    private string Names() => _handles.Count == 0 ? "none" : string.Join(", ", _handles.Select(handle => $"'{handle.Name}'"));

    private static Dictionary<string, bool> RequiredGradients(nn.Module model) =>
        model.named_parameters().ToDictionary(entry => entry.name, entry => entry.parameter.requires_grad);

    private static T Named<T>(string path, string adapter, Func<T> action)
    {
        try
        {
            return action();
        }
        catch (ArgumentOutOfRangeException e)
        {
            throw new ArgumentException($"The adapter '{adapter}' does not fit '{path}': {e.Message}", e.ParamName, e);
        }
    }

    private static void Named(string path, AdapterHandle handle, Action action)
    {
        try
        {
            action();
        }
        catch (InvalidOperationException e)
        {
            throw new InvalidOperationException($"The adapter '{handle.Name}' cannot be merged into '{path}'. {e.Message}", e);
        }
    }
}
