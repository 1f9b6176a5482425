using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// A module that an adapter trains as a whole, or whose bias it trains. It stays what and where it is; the values that are not in use, the original ones or the adapter's,
/// are kept beside it and change places with those in it.
/// </summary>
internal sealed class SavedModule : IDisposable
{
    private readonly nn.Module _module;
    private readonly Dictionary<string, Tensor> _other = [];

    public SavedModule(string path, nn.Module module, bool biasOnly = false)
    {
        Path = path;
        _module = module;
        BiasOnly = biasOnly;
        foreach ((string name, Tensor tensor) in State())
            _other.Add(name, tensor.detach().clone().DetachFromDisposeScope());
    }

    public string Path { get; }

    /// <summary>Whether only the module's own bias is trained.</summary>
    public bool BiasOnly { get; }

    /// <summary>What is trained, for messages.</summary>
    public string Subject => BiasOnly ? $"the bias of '{Path}'" : $"'{Path}' as a whole";

    /// <summary>Whether the module holds the adapter's values, and the original ones are beside it.</summary>
    public bool IsLive { get; private set; }

    public void SetLive(bool live)
    {
        if (live == IsLive)
            return;
        using (no_grad())
        {
            foreach ((string name, Tensor tensor) in State())
            {
                Tensor other = _other[name];
                using Tensor value = tensor.detach().clone();
                tensor.copy_(other);
                other.copy_(value);
            }
        }
        IsLive = live;
    }

    /// <summary>Leaves the values that the module has now in it for good.</summary>
    public void Keep() => IsLive = false;

    /// <summary>The parameters by their names in the model.</summary>
    public IEnumerable<(string Name, Parameter Parameter)> Parameters()
    {
        foreach ((string name, Parameter parameter) in _module.named_parameters())
        {
            if (IsTrained(name))
                yield return (NameOf(name), parameter);
        }
    }

    /// <summary>The adapter's values, buffers included, by their names in the model.</summary>
    public IEnumerable<(string Name, Tensor Tensor)> AdapterTensors()
    {
        foreach ((string name, Tensor tensor) in State())
            yield return (NameOf(name), IsLive ? tensor : _other[name]);
    }

    public void Dispose()
    {
        foreach (Tensor tensor in _other.Values)
            tensor.Dispose();
        _other.Clear();
    }

    private bool IsTrained(string name) => !BiasOnly || name == TargetSearch.BiasName;

    // The model itself has no path.
    private string NameOf(string name) => Path.Length == 0 ? name : $"{Path}.{name}";

    private IEnumerable<(string Name, Tensor Tensor)> State() =>
        _module.state_dict().Where(entry => IsTrained(entry.Key)).Select(entry => (entry.Key, entry.Value));
}
