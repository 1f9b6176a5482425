using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// The adapters of one <see cref="Linear"/> in the order in which they act, and which of them its weight contains. No module: the adapters'
/// modules share it.
/// </summary>
internal sealed class LayerAdapters(Linear baseLayer)
{
    private readonly List<AdapterLinear> _adapters = [];
    private readonly List<AdapterLinear> _merged = [];

    // The weight without what is merged. Kept because (W + D) - D is not W to the bit.
    private Tensor? _unmerged;

    public Linear BaseLayer { get; } = baseLayer;

    /// <summary>False: the layer computes what it does without any adapter.</summary>
    public bool Enabled { get; private set; } = true;

    /// <summary>Which adapter each row of the input uses, instead of those that take part; null: all rows use those.</summary>
    public LayerRows? Rows { get; set; }

    public bool AnyMerged => _merged.Count > 0;

    public bool IsEmpty => _adapters.Count == 0;

    public IReadOnlyList<AdapterLinear> Adapters => _adapters;

    public void Add(AdapterLinear adapter) => _adapters.Add(adapter);

    public void Remove(AdapterLinear adapter) => _adapters.Remove(adapter);

    public bool IsMerged(AdapterLinear adapter) => _merged.Contains(adapter);

    public void SetEnabled(bool enabled)
    {
        if (!enabled && AnyMerged)
            throw new InvalidOperationException("A merged adapter cannot be switched off; unmerge it first.");
        Enabled = enabled;
    }

    /// <summary>The layer with all adapters that take part; with <paramref name="only"/>, with that one alone.</summary>
    public Tensor Forward(Tensor input, AdapterLinear? only = null)
    {
        Check(input);
        if (Rows is { } rows && Enabled && only is null)
            return rows.Forward(input);
        using var scope = NewDisposeScope();
        Tensor output = BaseOutput(input);
        bool isFresh = true;
        foreach (AdapterLinear adapter in _adapters)
        {
            if (_merged.Contains(adapter))
                continue;
            bool takesPart = Enabled && adapter.Enabled && (only is null || ReferenceEquals(adapter, only));
            Tensor? next = takesPart ? adapter.AddTo(input, output, isFresh) : adapter.AddWhenOff(input, output);
            if (next is null)
                continue;
            output = next;
            isFresh = false;
        }
        return output.MoveToOuterDisposeScope();
    }

    public Tensor BaseOutput(Tensor input) => nn.functional.linear(input, BaseLayer.weight, BaseLayer.bias);

    public void ThrowIfCannotMerge(AdapterLinear adapter)
    {
        if (adapter.MergeObstacle is { } obstacle)
            throw new InvalidOperationException(obstacle);
        if (Rows is not null)
            throw new InvalidOperationException($"The rows of a batch use different adapters; dispose of what {nameof(AdapterExtensions.UseAdapters)} returned before one is merged.");
        if (!Enabled || !adapter.Enabled)
            throw new InvalidOperationException($"The {adapter.GetName()} is switched off and does not take part in forward; switch it on before merging it.");
        ThrowIfLeftDependent(other => ReferenceEquals(other, adapter) || _merged.Contains(other), "merge");
    }

    public void Merge(AdapterLinear adapter)
    {
        if (_merged.Contains(adapter))
            return;
        ThrowIfCannotMerge(adapter);
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        _unmerged ??= BaseLayer.weight.detach().clone().DetachFromDisposeScope();
        AddDelta(adapter);
        _merged.Add(adapter);
    }

    public void Unmerge(AdapterLinear adapter)
    {
        if (!_merged.Contains(adapter))
            return;
        if (_merged.Count > 1)
            ThrowIfLeftDependent(other => !ReferenceEquals(other, adapter) && _merged.Contains(other), "unmerge");
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        _merged.Remove(adapter);
        BaseLayer.weight.copy_(_unmerged!);
        foreach (AdapterLinear other in _merged)
            AddDelta(other);
        if (AnyMerged)
            return;
        _unmerged!.Dispose();
        _unmerged = null;
    }

    public void UnmergeAll()
    {
        if (!AnyMerged)
            return;
        using (no_grad())
            BaseLayer.weight.copy_(_unmerged!);
        ForgetUnmerged();
    }

    /// <summary>Adds adapters to the weight for good.</summary>
    public void MergeForever(IReadOnlyList<AdapterLinear> adapters)
    {
        UnmergeAll();
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        // What depends on the base weight means the weight without the others.
        foreach (AdapterLinear adapter in adapters)
        {
            if (adapter.DependsOnBaseWeight)
                AddDelta(adapter);
        }
        foreach (AdapterLinear adapter in adapters)
        {
            if (!adapter.DependsOnBaseWeight)
                AddDelta(adapter);
        }
    }

    /// <summary>Lets go of the weight that <see cref="Unmerge"/> would bring back.</summary>
    public void ForgetUnmerged()
    {
        _merged.Clear();
        _unmerged?.Dispose();
        _unmerged = null;
    }

    /// <summary>A change of type or device must reach the kept weight as well.</summary>
    public void FollowBaseLayer()
    {
        Rows?.Forget();
        if (_unmerged is null)
            return;
        Parameter weight = BaseLayer.weight;
        if (_unmerged.dtype == weight.dtype && _unmerged.device_type == weight.device_type && _unmerged.device_index == weight.device_index)
            return;
        using Tensor before = _unmerged;
        _unmerged = before.to(weight.dtype, weight.device).DetachFromDisposeScope();
    }

    private void AddDelta(AdapterLinear adapter)
    {
        Parameter weight = BaseLayer.weight;
        Tensor delta = adapter.DeltaOf(weight);
        // One rounding, in the weight's type.
        weight.copy_(weight.to(delta.dtype) + delta);
    }

    private void ThrowIfLeftDependent(Func<AdapterLinear, bool> isMergedAfterwards, string what)
    {
        foreach (AdapterLinear other in _adapters)
        {
            if (other.DependsOnBaseWeight && !isMergedAfterwards(other))
                throw new InvalidOperationException($"Cannot {what}: the layer's {other.GetName()} depends on the base weight, which another adapter would be part of.");
        }
    }

    private void Check(Tensor input)
    {
        int dimensions = (int)input.Dimensions;
        Parameter weight = BaseLayer.weight;
        if (dimensions == 0 || input.size(dimensions - 1) != BaseLayer.in_features)
            throw new ArgumentException($"The input has shape [{string.Join(", ", input.shape)}]; expected [.., {BaseLayer.in_features}].", nameof(input));
        if (input.dtype != weight.dtype)
            throw new ArgumentException($"The input is {input.dtype}; expected {weight.dtype} as the base layer's weight.", nameof(input));
        if (input.device_type != weight.device_type || input.device_index != weight.device_index)
            throw new ArgumentException($"The input is on {input.device}; expected {weight.device} as the base layer's weight.", nameof(input));
    }
}
