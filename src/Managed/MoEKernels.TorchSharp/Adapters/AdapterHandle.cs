using System.Collections.ObjectModel;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>An adapter that <see cref="AdapterExtensions.AddAdapter"/> put into a model.</summary>
/// <remarks>
/// <see cref="Remove"/> takes it out again and keeps its weights; <see cref="Dispose"/> also frees them. The handle belongs to the model: it is
/// collected with it, and forgetting it leaves the adapter in place.
/// </remarks>
public sealed class AdapterHandle : IDisposable
{
    private readonly nn.Module _model;
    private readonly List<Replacement> _replacements;
    private readonly Dictionary<string, bool> _requiredGrad;

    private AdapterHandle(nn.Module model, AdapterConfig config, List<Replacement> replacements, Dictionary<string, bool> requiredGrad)
    {
        _model = model;
        Configuration = config;
        _replacements = replacements;
        _requiredGrad = requiredGrad;
        Layers = new ReadOnlyDictionary<string, AdapterLinear>(replacements.ToDictionary(r => r.Path, r => r.Adapter));
    }

    /// <summary>The configuration that the adapter was made from.</summary>
    public AdapterConfig Configuration { get; }

    /// <summary>The adapter's modules by the path of the layer they wrap.</summary>
    public IReadOnlyDictionary<string, AdapterLinear> Layers { get; }

    /// <summary>Whether the adapter is in the model.</summary>
    public bool IsAttached { get; private set; } = true;

    /// <summary>The numbers of trainable and of all parameters.</summary>
    public AdapterReport Report
    {
        get
        {
            long own = AdapterParameters().Sum(entry => entry.parameter.numel());
            long total = _model.parameters().Sum(parameter => parameter.numel());
            return new AdapterReport(Layers.Count, own, IsAttached ? total : total + own);
        }
    }

    /// <summary>
    /// The trainable parameters, named <c>&lt;path of the layer&gt;.&lt;name in the module&gt;</c>. Give them to an optimiser after any
    /// <c>to()</c>, which makes new ones.
    /// </summary>
    public IEnumerable<(string name, Parameter parameter)> AdapterParameters() =>
        _replacements.SelectMany(r => r.Adapter.AdapterParameters().Select(entry => ($"{r.Path}.{entry.name}", entry.parameter)));

    /// <summary>Switches the adapter's part on or off in every layer, see <see cref="AdapterLinear.Enabled"/>.</summary>
    /// <param name="enabled">Whether the adapter takes part.</param>
    public void SetEnabled(bool enabled)
    {
        foreach (Replacement replacement in _replacements)
            replacement.Adapter.Enabled = enabled;
    }

    /// <summary>Chooses what computes the adapter in every layer, see <see cref="AdapterLinear.Implementation"/>.</summary>
    /// <param name="implementation">What computes it.</param>
    public void SetImplementation(AdapterImplementation implementation)
    {
        foreach (Replacement replacement in _replacements)
            replacement.Adapter.Implementation = implementation;
    }

    /// <summary>Saves the adapter, see <see cref="AdapterExtensions.SaveAdapter"/>.</summary>
    /// <param name="path">The safetensors file to write.</param>
    public void Save(string path) => AdapterFile.Save(this, path);

    /// <summary>
    /// Loads weights into this adapter. All tensors are checked before the first is changed.
    /// </summary>
    /// <param name="path">A safetensors file of the same kind of adapter on the same layers.</param>
    /// <exception cref="InvalidDataException">The file is damaged, or a tensor is missing, unknown, or of another shape.</exception>
    public void Load(string path) => AdapterFile.LoadInto(this, path);

    /// <summary>
    /// Takes the adapter out: the original layers come back to their places, and every parameter requires gradients again if it did before.
    /// Does nothing when it is out already. The adapter's weights stay alive.
    /// </summary>
    public void Remove()
    {
        if (!IsAttached)
            return;
        foreach (Replacement replacement in _replacements)
        {
            replacement.Adapter.ReleaseBaseLayer();
            replacement.Put(replacement.BaseLayer);
        }
        foreach ((string name, Parameter parameter) in _model.named_parameters())
        {
            if (_requiredGrad.TryGetValue(name, out bool required))
                parameter.requires_grad = required;
        }
        AdapterExtensions.Forget(_model);
        IsAttached = false;
    }

    /// <summary>Takes the adapter out and frees its weights.</summary>
    public void Dispose()
    {
        Remove();
        foreach (Replacement replacement in _replacements)
            replacement.Adapter.Dispose();
    }

    internal static AdapterHandle Attach(nn.Module model, AdapterConfig config)
    {
        config.Validate();
        List<(string Path, Linear Layer)> targets = FindTargets(model, config);

        // Everything that can fail happens before the model changes.
        var replacements = new List<Replacement>();
        var requiredGrad = model.named_parameters().ToDictionary(entry => entry.name, entry => entry.parameter.requires_grad);
        try
        {
            foreach ((string path, Linear layer) in targets)
            {
                AdapterLinear adapter = config.CreateModule(layer);
                adapter.train(layer.training);
                replacements.Add(new Replacement(path, layer, adapter, []));
                replacements[^1].Places.AddRange(ModuleSurgery.FindPlaces(model, layer, adapter.GetType(), path));
            }
        }
        catch
        {
            foreach (Replacement replacement in replacements)
            {
                replacement.Adapter.ReleaseBaseLayer();
                replacement.Adapter.Dispose();
            }
            foreach ((string name, Parameter parameter) in model.named_parameters())
                parameter.requires_grad = requiredGrad[name];
            throw;
        }

        foreach (Parameter parameter in model.parameters())
            parameter.requires_grad = false;
        foreach (Replacement replacement in replacements)
            replacement.Put(replacement.Adapter);
        return new AdapterHandle(model, config, replacements, requiredGrad);
    }

    private static List<(string Path, Linear Layer)> FindTargets(nn.Module model, AdapterConfig config)
    {
        List<(string name, nn.Module module)> modules = model.named_modules().ToList();
        if (model is AdapterLinear || modules.Any(entry => entry.module is AdapterLinear))
            throw new InvalidOperationException("The model has an adapter already; remove it first.");
        if (model is Linear)
            throw new ArgumentException($"The model itself is a Linear, which has no parent to be replaced in; wrap it in a {nameof(LoRALinear)}, {nameof(SMoRALinear)} or {nameof(CoMoLLinear)} directly.", nameof(model));

        ModulePattern[] included = [.. config.TargetModules.Select(text => new ModulePattern(text))];
        ModulePattern[] excluded = [.. config.ExcludeModules.Select(text => new ModulePattern(text))];
        var targets = new List<(string, Linear)>();
        foreach ((string name, nn.Module module) in modules)
        {
            if (!included.Any(pattern => pattern.Matches(name)) || excluded.Any(pattern => pattern.Matches(name)))
                continue;
            // A layer that is registered under two names is one layer.
            if (module is Linear linear && !targets.Any(target => ReferenceEquals(target.Item2, linear)))
                targets.Add((name, linear));
        }
        if (targets.Count > 0)
            return targets;

        string[] linears = [.. modules.Where(entry => entry.module is Linear).Select(entry => entry.name)];
        string[] others = [.. modules.Where(entry => entry.module is not Linear && included.Any(p => p.Matches(entry.name)))
            .Select(entry => $"{entry.name} ({entry.module.GetType().Name})")];
        string wanted = string.Join(", ", config.TargetModules);
        string got = others.Length > 0 && wanted != AdapterConfig.AllLinear
            ? $"Only Linear layers can be wrapped, but the patterns match {Shorten(others)}. "
            : string.Empty;
        string exist = linears.Length > 0 ? $"The model's Linear layers are: {Shorten(linears)}." : "The model has no Linear layer.";
        string except = config.ExcludeModules.Count > 0 ? $" except [{string.Join(", ", config.ExcludeModules)}]" : string.Empty;
        throw new ArgumentException($"{nameof(AdapterConfig.TargetModules)} [{wanted}]{except} match no Linear layer. {got}{exist}", nameof(config));
    }

    private static string Shorten(string[] names) =>
        names.Length <= 40 ? string.Join(", ", names) : $"{string.Join(", ", names.Take(40))}, … ({names.Length} in all)";

    private sealed record Replacement(string Path, Linear BaseLayer, AdapterLinear Adapter, List<Action<nn.Module>> Places)
    {
        public void Put(nn.Module module)
        {
            foreach (Action<nn.Module> place in Places)
                place(module);
        }
    }
}
