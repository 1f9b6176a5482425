using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>Finds the modules that a configuration names, in a model that may have adapters already.</summary>
internal sealed class TargetSearch
{
    /// <summary>TorchSharp's name of every bias.</summary>
    internal const string BiasName = "bias";

    private readonly nn.Module _model;
    private readonly AdapterConfig _config;
    private readonly IReadOnlyList<AdaptedPlace> _places;
    private readonly IReadOnlyList<AdapterHandle> _handles;

    // Modules by path; a wrapped layer stands for its own, and nothing from inside the adapters is there.
    private readonly List<(string Path, nn.Module Module)> _modules = [];

    public TargetSearch(nn.Module model, AdapterConfig config, IReadOnlyList<AdaptedPlace> places, IReadOnlyList<AdapterHandle> handles)
    {
        _model = model;
        _config = config;
        _places = places;
        _handles = handles;
        if (model is Linear)
            throw new ArgumentException($"The model itself is a Linear, which has no parent to be replaced in; wrap it in a {nameof(LoRALinear)}, {nameof(SMoRALinear)} or {nameof(CoMoLLinear)} directly.", nameof(model));

        var fronts = new Dictionary<nn.Module, AdaptedPlace>(ReferenceEqualityComparer.Instance);
        var inside = new HashSet<nn.Module>(ReferenceEqualityComparer.Instance);
        foreach (AdaptedPlace place in places)
        {
            fronts.Add(place.Front, place);
            foreach (nn.Module module in place.Front.modules())
                inside.Add(module);
        }
        ThrowIfForeign(model, fronts);
        foreach ((string path, nn.Module module) in model.named_modules())
        {
            if (fronts.TryGetValue(module, out AdaptedPlace? place))
            {
                _modules.Add((path, place.Layer.BaseLayer));
            }
            else if (!inside.Contains(module))
            {
                ThrowIfForeign(module, fronts);
                _modules.Add((path, module));
            }
        }
    }

    /// <summary>The modules to be trained as a whole; of two of which one contains the other, the outer one.</summary>
    public IReadOnlyList<(string Path, nn.Module Module)> FindSaved()
    {
        ModulePattern[] patterns = [.. _config.ModulesToSave.Select(text => new ModulePattern(text))];
        var found = new List<(string Path, nn.Module Module)>();
        var matched = new bool[patterns.Length];
        foreach ((string path, nn.Module module) in _modules)
        {
            for (int i = 0; i < patterns.Length; i++)
            {
                if (!patterns[i].Matches(path))
                    continue;
                matched[i] = true;
                bool isNew = !found.Exists(other => ReferenceEquals(other.Module, module) || IsInside(path, other.Path));
                if (isNew && module.state_dict().Count > 0)
                    found.Add((path, module));
                break;
            }
        }
        // named_modules goes level by level in places, so an outer module may come later.
        found.RemoveAll(entry => found.Exists(other => other.Path != entry.Path && IsInside(entry.Path, other.Path)));
        for (int i = 0; i < matched.Length; i++)
        {
            if (_config.ModulesToSave[i] == AdapterConfig.AllLinear || !matched[i])
                throw new ArgumentException($"{nameof(AdapterConfig.ModulesToSave)} has '{_config.ModulesToSave[i]}', which matches no module of the model. The model's modules are: {Shorten([.. _modules.Select(entry => entry.Path)])}.", nameof(_config));
        }
        foreach ((string path, _) in found)
        {
            foreach (AdaptedPlace place in _places)
            {
                if (place.Path == path || IsInside(place.Path, path))
                    throw new InvalidOperationException($"{nameof(AdapterConfig.ModulesToSave)} names '{path}', but another adapter wraps '{place.Path}'.");
            }
        }
        return found;
    }

    public List<(string Path, Linear Layer)> FindTargets(IReadOnlyList<(string Path, nn.Module Module)> saved)
    {
        ModulePattern[] included = [.. _config.TargetModules.Select(text => new ModulePattern(text))];
        ModulePattern[] excluded = [.. _config.ExcludeModules.Select(text => new ModulePattern(text))];
        var targets = new List<(string Path, Linear Layer)>();
        var seen = new HashSet<nn.Module>(ReferenceEqualityComparer.Instance);
        foreach ((string path, nn.Module module) in _modules)
        {
            if (module is not Linear linear || !ModulePattern.AnyMatches(included, path) || ModulePattern.AnyMatches(excluded, path))
                continue;
            // A layer that is registered under two names is one layer.
            if (IsSaved(path, saved) || !seen.Add(linear))
                continue;
            ThrowIfSavedByAnother(path);
            targets.Add((path, linear));
        }
        return targets.Count > 0 ? targets : throw NoMatch(included);
    }

    /// <summary>The modules whose own biases are trained, those apart that are trained as a whole.</summary>
    public List<(string Path, nn.Module Module)> FindBiases(IReadOnlyList<(string Path, Linear Layer)> targets, IReadOnlyList<(string Path, nn.Module Module)> saved)
    {
        IEnumerable<(string Path, nn.Module Module)> candidates = _config.Bias switch
        {
            PeftBias.All => _modules.Append((string.Empty, _model)),
            PeftBias.LoraOnly => targets.Select(target => (target.Path, (nn.Module)target.Layer)),
            _ => [],
        };
        var seen = new HashSet<nn.Module>(ReferenceEqualityComparer.Instance);
        return [.. candidates.Where(entry => !IsSaved(entry.Path, saved) && entry.Module.named_parameters(recurse: false).Any(own => own.name == BiasName) && seen.Add(entry.Module))];
    }

    private static bool IsSaved(string path, IReadOnlyList<(string Path, nn.Module Module)> saved)
    {
        foreach ((string Path, nn.Module Module) entry in saved)
        {
            if (entry.Path == path || IsInside(path, entry.Path))
                return true;
        }
        return false;
    }

    private void ThrowIfSavedByAnother(string path)
    {
        foreach (AdapterHandle handle in _handles)
        {
            foreach (SavedModule saved in handle.SavedModules)
            {
                if (!saved.BiasOnly && (saved.Path == path || IsInside(path, saved.Path)))
                    throw new InvalidOperationException($"'{path}' cannot be wrapped, since the adapter '{handle.Name}' trains '{saved.Path}' as a whole.");
            }
        }
    }

    private ArgumentException NoMatch(ModulePattern[] included)
    {
        string[] linears = [.. _modules.Where(entry => entry.Module is Linear).Select(entry => entry.Path)];
        string[] others = [.. _modules.Where(entry => entry.Module is not Linear && ModulePattern.AnyMatches(included, entry.Path))
            .Select(entry => $"{entry.Path} ({entry.Module.GetType().Name})")];
        string wanted = string.Join(", ", _config.TargetModules);
        string got = others.Length > 0 && wanted != AdapterConfig.AllLinear
            ? $"Only Linear layers can be wrapped, but the patterns match {Shorten(others)}. "
            : string.Empty;
        string exist = linears.Length > 0 ? $"The model's Linear layers are: {Shorten(linears)}." : "The model has no Linear layer.";
        string except = _config.ExcludeModules.Count > 0 ? $" except [{string.Join(", ", _config.ExcludeModules)}]" : string.Empty;
        return new ArgumentException($"{nameof(AdapterConfig.TargetModules)} [{wanted}]{except} match no Linear layer. {got}{exist}", nameof(included));
    }

    private static void ThrowIfForeign(nn.Module module, Dictionary<nn.Module, AdaptedPlace> fronts)
    {
        if (module is AdapterLinear or AdaptedLinear && !fronts.ContainsKey(module))
            throw new InvalidOperationException("The model contains adapters already that were not added to it but to a part of it, to a model it is part of, or by hand; remove those first.");
    }

    private static bool IsInside(string path, string outer) =>
        path.Length > outer.Length && path[outer.Length] == '.' && path.StartsWith(outer, StringComparison.Ordinal);

    private static string Shorten(string[] names) =>
        names.Length <= 40 ? string.Join(", ", names) : $"{string.Join(", ", names.Take(40))}, … ({names.Length} in all)";
}
