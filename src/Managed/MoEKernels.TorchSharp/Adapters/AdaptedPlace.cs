using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>Where a model refers to a wrapped layer, and what stands there.</summary>
/// <param name="path">The layer's path in the model without adapters.</param>
/// <param name="layer">The layer and its adapters.</param>
/// <param name="puts">Each puts a module in one of the places.</param>
internal sealed class AdaptedPlace(string path, LayerAdapters layer, IReadOnlyList<Action<nn.Module>> puts)
{
    public string Path { get; } = path;

    public LayerAdapters Layer { get; } = layer;

    /// <summary>What stands in the model.</summary>
    public nn.Module Front { get; private set; } = layer.BaseLayer;

    /// <summary>
    /// Puts the right module in the model: the layer itself without adapters; the adapter called "default", with the others as its children; or a
    /// module for adapters with other names. So a name in <c>state_dict</c> depends on its adapter's name alone.
    /// </summary>
    public void Rebuild(IReadOnlyList<KeyValuePair<string, AdapterLinear>> adapters)
    {
        var before = Front as AdaptedLinear;
        before?.Unhost();
        Front = Build(adapters);
        foreach (Action<nn.Module> put in puts)
            put(Front);
        before?.Dispose();
    }

    private nn.Module Build(IReadOnlyList<KeyValuePair<string, AdapterLinear>> adapters)
    {
        if (adapters.Count == 0)
            return Layer.BaseLayer;
        if (adapters is [(AdapterName.Default, { IsInModel: true, HasGuests: false } alone)])
            return alone;

        AdapterLinear? host = null;
        var guests = new List<KeyValuePair<string, AdapterLinear>>();
        foreach (KeyValuePair<string, AdapterLinear> adapter in adapters)
        {
            adapter.Value.Unhost();
            if (adapter.Key == AdapterName.Default)
                host = adapter.Value;
            else
                guests.Add(adapter);
        }
        if (host is null)
            return new AdaptedLinear(Layer, guests);
        host.Host(guests);
        return host;
    }
}
