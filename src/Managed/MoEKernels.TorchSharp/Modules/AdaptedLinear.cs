using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// Stands in the model for a <see cref="Linear"/> none of whose adapters is called "default": [.., d_in] to [.., d_out], the layer with all adapters
/// that take part.
/// </summary>
/// <remarks>Names in <c>state_dict</c>: <c>base_layer</c>, and every adapter under its own name.</remarks>
internal sealed class AdaptedLinear : nn.Module<Tensor, Tensor>
{
    private readonly LayerAdapters _layer;
    private readonly List<string> _names = [];

    public AdaptedLinear(LayerAdapters layer, IEnumerable<KeyValuePair<string, AdapterLinear>> adapters)
        : base(nameof(AdaptedLinear))
    {
        _layer = layer;
        register_module(AdapterLinear.BaseLayerName, layer.BaseLayer);
        foreach ((string name, AdapterLinear adapter) in adapters)
        {
            register_module(name, adapter);
            _names.Add(name);
        }
        RegisterComponents();
    }

    public Linear BaseLayer => _layer.BaseLayer;

    public override Tensor forward(Tensor input)
    {
        ArgumentNullException.ThrowIfNull(input);
        return _layer.Forward(input);
    }

    /// <summary>Lets go of its children, so that disposing this module leaves them alive.</summary>
    public void Unhost()
    {
        register_module(AdapterLinear.BaseLayerName, null!);
        foreach (string name in _names)
            register_module(name, null!);
        _names.Clear();
    }

    /// <inheritdoc/>
    protected override void _toEpilog(ScalarType? dtype, Device? device, bool non_blocking)
    {
        base._toEpilog(dtype, device, non_blocking);
        _layer.FollowBaseLayer();
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing && _names.Count > 0)
            _layer.ForgetUnmerged();
        base.Dispose(disposing);
    }
}
