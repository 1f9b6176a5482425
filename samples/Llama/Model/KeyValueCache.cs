using static TorchSharp.torch;

namespace Llama;

/// <summary>What a decoder remembers of the positions so far, so that the next one does not compute them again. For use without gradients.</summary>
internal sealed class KeyValueCache : IDisposable
{
    /// <summary>Makes an empty cache.</summary>
    /// <param name="config">The model.</param>
    /// <param name="batch">Sequences.</param>
    /// <param name="capacity">Positions that there is room for.</param>
    /// <param name="dtype">The model's element type.</param>
    /// <param name="device">The model's device.</param>
    public KeyValueCache(ModelConfig config, int batch, int capacity, ScalarType dtype, Device device)
    {
        long[] shape = [batch, config.KeyValueHeads, capacity, config.HeadWidth];
        Layers = [.. Enumerable.Range(0, config.Layers).Select(_ => new LayerCache(shape, dtype, device))];
    }

    /// <summary>One part for each layer.</summary>
    public IReadOnlyList<LayerCache> Layers { get; }

    /// <summary>Positions that are there.</summary>
    public long Length => Layers[^1].Length;

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (LayerCache layer in Layers)
            layer.Dispose();
    }
}
