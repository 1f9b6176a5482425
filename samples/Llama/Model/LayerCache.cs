using static TorchSharp.torch;

namespace Llama;

/// <summary>The keys and values of one layer for the positions so far, in tensors that have room for all that will come.</summary>
internal sealed class LayerCache : IDisposable
{
    private readonly Tensor _keys;
    private readonly Tensor _values;

    public LayerCache(long[] shape, ScalarType dtype, Device device)
    {
        _keys = empty(shape, dtype, device).DetachFromDisposeScope();
        _values = empty(shape, dtype, device).DetachFromDisposeScope();
    }

    /// <summary>Positions that are there.</summary>
    public long Length { get; private set; }

    /// <summary>Puts further positions behind those that are there.</summary>
    /// <param name="keys">Shape <c>[batch, keyValueHeads, positions, headWidth]</c>.</param>
    /// <param name="values">The same shape.</param>
    /// <returns>Keys and values of all positions.</returns>
    public (Tensor Keys, Tensor Values) Append(Tensor keys, Tensor values)
    {
        long added = keys.size(2);
        if (Length + added > _keys.size(2))
            throw new ArgumentException($"{added} positions do not fit behind {Length}; the cache has room for {_keys.size(2)}.", nameof(keys));
        _keys.narrow(2, Length, added).copy_(keys);
        _values.narrow(2, Length, added).copy_(values);
        Length += added;
        return (_keys.narrow(2, 0, Length), _values.narrow(2, 0, Length));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _keys.Dispose();
        _values.Dispose();
    }
}
