using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// A frozen <see cref="Linear"/> with a trainable adapter beside it: [.., d_in] to [.., d_out], y = W x + b + adapter(x).
/// </summary>
/// <remarks>
/// <para>
/// Names in <c>state_dict</c> follow PEFT: <c>base_layer.weight</c>, <c>base_layer.bias</c> and those of the method. A new adapter changes
/// nothing. Several adapters of one layer share it: the one that stands in the model computes all that take part; any other, called by
/// itself, computes the layer with itself alone.
/// </para>
/// <para>
/// The base layer's <c>forward</c> is computed directly, so hooks registered on the base layer do not run; register them on this module.
/// The base layer's parameters stop requiring gradients when the module is made.
/// </para>
/// </remarks>
public abstract class AdapterLinear : nn.Module<Tensor, Tensor>, IAdapterVariant
{
    internal const string BaseLayerName = "base_layer";

    private readonly List<string> _guests = [];
    private LayerAdapters _layer;
    private AdapterImplementation _implementation;

    private protected AdapterLinear(string name, Linear baseLayer, AdapterConfig config)
        : base(name)
    {
        ArgumentNullException.ThrowIfNull(baseLayer);
        ArgumentNullException.ThrowIfNull(config);
        config.Validate();

        ScalarType baseType = baseLayer.weight.dtype;
        if (!TensorTypes.IsSupported(baseType))
            throw new ArgumentException($"The base layer's weight is {baseType}; expected Float32, BFloat16, Float16 or Float64.", nameof(baseLayer));
        ParameterType = config.ParameterType ?? TensorTypes.Accumulator(baseType);
        if (!TensorTypes.AreCompatible(baseType, ParameterType))
            throw new ArgumentException($"{nameof(config.ParameterType)} is {ParameterType} beside a base layer of {baseType}; expected the same type, or Float32 beside BFloat16 or Float16.", nameof(config));

        Configuration = config;
        InFeatures = baseLayer.in_features;
        OutFeatures = baseLayer.out_features;

        foreach (var parameter in baseLayer.parameters())
            parameter.requires_grad = false;
        _layer = new LayerAdapters(baseLayer);
        _layer.Add(this);
        register_module(BaseLayerName, baseLayer);
    }

    /// <summary>The wrapped layer.</summary>
    public Linear BaseLayer => _layer.BaseLayer;

    /// <summary>Input width d_in.</summary>
    public long InFeatures { get; }

    /// <summary>Output width d_out.</summary>
    public long OutFeatures { get; }

    /// <summary>The configuration that the adapter was made from, with the overrides for this layer applied.</summary>
    public AdapterConfig Configuration { get; }

    /// <summary>Whether the adapter takes part; false leaves it out. Default: true.</summary>
    /// <exception cref="InvalidOperationException">The adapter is to be switched off while it is merged.</exception>
    public bool Enabled
    {
        get;
        set
        {
            if (!value && IsMerged)
                throw new InvalidOperationException($"The {GetName()} is merged and cannot be switched off; unmerge it first.");
            field = value;
        }
    } = true;

    /// <summary>
    /// What computes the adapter; may be switched at any time between two forward passes. Default:
    /// <see cref="AdapterImplementation.Fused"/>.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is not one of the enumeration.</exception>
    public AdapterImplementation Implementation
    {
        get => _implementation;
        set
        {
            if (!Enum.IsDefined(value))
                throw new ArgumentOutOfRangeException(nameof(value), value, $"Expected a value of {nameof(AdapterImplementation)}.");
            _implementation = value;
        }
    }

    /// <inheritdoc/>
    public bool CanMerge => MergeObstacle is null;

    /// <inheritdoc/>
    public bool IsMerged => _layer.IsMerged(this);

    /// <summary>The trainable parameters of the adapter with their names in <c>state_dict</c>.</summary>
    public IEnumerable<(string name, Parameter parameter)> AdapterParameters() =>
        named_parameters().Where(entry => IsOwn(entry.name));

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The last dimension of <paramref name="input"/> is not d_in, or its type or device does not fit the layer's.</exception>
    public sealed override Tensor forward(Tensor input)
    {
        ArgumentNullException.ThrowIfNull(input);
        return _layer.Forward(input, IsInModel ? null : this);
    }

    /// <inheritdoc/>
    public void Init()
    {
        if (_layer.AnyMerged)
            throw new InvalidOperationException("An adapter is merged into the base layer; unmerge it first.");
        using var noGrad = no_grad();
        LeaveBase();
        InitParameters();
        EnterBase();
    }

    /// <inheritdoc/>
    public Tensor Delta()
    {
        if (MergeObstacle is { } obstacle)
            throw new InvalidOperationException(obstacle);
        ThrowIfMerged();
        using var noGrad = no_grad();
        return DeltaOf(BaseLayer.weight);
    }

    /// <inheritdoc/>
    Tensor IAdapterVariant.Forward(Tensor input, Tensor output)
    {
        ArgumentNullException.ThrowIfNull(input);
        ArgumentNullException.ThrowIfNull(output);
        OpTensors.CheckWidth(input, InFeatures, "d_in");
        OpTensors.CheckLikeWithWidth(output, input, OutFeatures);
        return AddTo(input, output, mayOverwrite: false);
    }

    /// <inheritdoc/>
    public void Merge() => _layer.Merge(this);

    /// <inheritdoc/>
    public void Unmerge() => _layer.Unmerge(this);

    /// <summary>
    /// Whether <c>to()</c> leaves the adapter's own tensors in their type, and converts them only where they could not serve the base layer's new one.
    /// Set by <see cref="AdapterExtensions.ToKeepingAdapters{T}"/> while it runs.
    /// </summary>
    internal bool KeepsType { get; set; }

    /// <summary>Whether this module stands in the model for its layer, or is used without a model. Otherwise another one computes it.</summary>
    internal bool IsInModel { get; private set; } = true;

    internal LayerAdapters Layer => _layer;

    internal bool HasGuests => _guests.Count > 0;

    /// <summary>Why the adapter cannot become part of the base weight; null when it can.</summary>
    internal virtual string? MergeObstacle => null;

    /// <summary>Whether the adapter's part depends on the base weight itself, and not on W x alone.</summary>
    internal virtual bool DependsOnBaseWeight => false;

    /// <summary>Adds the adapter to an output. The result may be <paramref name="output"/> itself, changed, when that is allowed; else it is new.</summary>
    internal Tensor AddTo(Tensor input, Tensor output, bool mayOverwrite)
    {
        ScalarType type = ParameterTypeNow;
        if (!TensorTypes.AreCompatible(input.dtype, type))
            throw new ArgumentException($"The input is {input.dtype} and the adapter's parameters are {type}; expected the same type, or Float32 parameters below BFloat16 or Float16.", nameof(input));
        return AddAdapted(input, output, mayOverwrite);
    }

    /// <summary>What the adapter adds when it does not take part: nothing, unless the base weight lacks a part that it keeps.</summary>
    internal virtual Tensor? AddWhenOff(Tensor input, Tensor output) => null;

    /// <summary>The adapter as one pair of factors; null where it is something else.</summary>
    internal virtual LoraFactors? Factors => null;

    /// <summary>What <see cref="AddWhenOff"/> adds as one pair of factors; null: it adds nothing.</summary>
    internal virtual LoraFactors? FactorsWhenOff => null;

    /// <summary>What merging adds to a weight. Called without gradients.</summary>
    internal abstract Tensor DeltaOf(Tensor weight);

    /// <summary>Takes the part of the base weight that the method keeps in its factors out of it. Called once, when the adapter comes into use.</summary>
    internal virtual void EnterBase()
    {
    }

    /// <summary>Puts back what <see cref="EnterBase"/> took.</summary>
    internal virtual void LeaveBase()
    {
    }

    /// <summary>The adapter's own tensors, buffers included, by their names in <c>state_dict</c>.</summary>
    internal IEnumerable<(string Name, Tensor Tensor)> AdapterTensors() =>
        AdapterParameters().Select(entry => (entry.name, (Tensor)entry.parameter))
            .Concat(named_buffers().Where(entry => IsOwn(entry.name)));

    /// <summary>Makes this adapter one of those of a layer that has adapters already.</summary>
    internal void Join(LayerAdapters layer)
    {
        Unhost();
        IsInModel = false;
        _layer = layer;
        layer.Add(this);
    }

    /// <summary>Becomes the only adapter of its layer again, outside of any model.</summary>
    internal void Leave()
    {
        Unhost();
        _layer.Remove(this);
        _layer = new LayerAdapters(BaseLayer);
        _layer.Add(this);
    }

    /// <summary>Stands in the model: the base layer and the other adapters become children.</summary>
    internal void Host(IEnumerable<KeyValuePair<string, AdapterLinear>> guests)
    {
        Unhost();
        IsInModel = true;
        register_module(BaseLayerName, BaseLayer);
        foreach ((string name, AdapterLinear guest) in guests)
        {
            register_module(name, guest);
            _guests.Add(name);
        }
    }

    /// <summary>Lets go of the base layer and the other adapters, so that disposing this module leaves them alive.</summary>
    internal void Unhost()
    {
        IsInModel = false;
        register_module(BaseLayerName, null!);
        foreach (string name in _guests)
            register_module(name, null!);
        _guests.Clear();
    }

    private protected ScalarType ParameterType { get; }

    /// <summary>The type after what <c>to()</c> did.</summary>
    private protected abstract ScalarType ParameterTypeNow { get; }

    /// <summary>A registered parameter without values.</summary>
    private protected Parameter NewParameter(string name, long rows, long columns, Device device)
    {
        var parameter = (Parameter)nn.Parameter(empty(rows, columns, dtype: ParameterType, device: device)).DetachFromDisposeScope();
        register_parameter(name, parameter);
        return parameter;
    }

    private protected abstract Tensor AddAdapted(Tensor input, Tensor output, bool mayOverwrite);

    /// <summary>Gives the parameters their starting values, from the whole base weight. Called without gradients.</summary>
    private protected abstract void InitParameters();

    /// <inheritdoc/>
    protected override void _toEpilog(ScalarType? dtype, Device? device, bool non_blocking)
    {
        if (KeepsType && dtype is { } type)
            ConvertKeepingType(type, device, non_blocking);
        else
            base._toEpilog(dtype, device, non_blocking);
        _layer.FollowBaseLayer();
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing && IsInModel)
            _layer.ForgetUnmerged();
        base.Dispose(disposing);
    }

    private void ConvertKeepingType(ScalarType type, Device? device, bool nonBlocking)
    {
        ScalarType now = ParameterTypeNow;
        ScalarType own = TensorTypes.AreCompatible(type, now) ? now : TensorTypes.Accumulator(type);
        // The children that are not the adapter's own go the usual way; TorchSharp would give them the own type.
        var others = named_children().Where(child => child.name == BaseLayerName || _guests.Contains(child.name)).ToArray();
        foreach ((string name, nn.Module child) in others)
        {
            if (device is null)
                child.to(type, nonBlocking);
            else
                child.to(device, type, nonBlocking);
            register_module(name, null!);
        }
        base._toEpilog(own, device, nonBlocking);
        foreach ((string name, nn.Module child) in others)
            register_module(name, child);
    }

    private bool IsOwn(string name)
    {
        if (IsBelow(name, BaseLayerName))
            return false;
        foreach (string guest in _guests)
        {
            if (IsBelow(name, guest))
                return false;
        }
        return true;
    }

    private static bool IsBelow(string name, string child) =>
        name.Length > child.Length && name[child.Length] == '.' && name.StartsWith(child, StringComparison.Ordinal);

    private void ThrowIfMerged()
    {
        if (IsMerged)
            throw new InvalidOperationException($"The {GetName()} is merged into its base layer; unmerge it first.");
    }
}
