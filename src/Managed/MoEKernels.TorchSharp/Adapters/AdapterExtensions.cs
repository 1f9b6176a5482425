using System.Runtime.CompilerServices;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>Adapters on whole models.</summary>
public static class AdapterExtensions
{
    private static readonly ConditionalWeakTable<nn.Module, AdapterHandle> Handles = [];

    /// <summary>
    /// Replaces the <see cref="Linear"/> layers that the configuration names by adapters that wrap them, in place, and freezes all other
    /// parameters. Nothing has changed when it throws.
    /// </summary>
    /// <param name="model">
    /// The model. A layer is replaced wherever the tree of modules refers to it: registries, containers, fields. A field of type Linear
    /// cannot hold an adapter, since that class is sealed: declare such fields as <c>Module&lt;Tensor, Tensor&gt;</c>.
    /// </param>
    /// <param name="config">Which layers, and which adapter.</param>
    /// <returns>A handle that can take the adapter out again.</returns>
    /// <exception cref="ArgumentException">The configuration is out of its range, or matches no Linear layer.</exception>
    /// <exception cref="InvalidOperationException">The model has an adapter already, or a field cannot hold one.</exception>
    public static AdapterHandle AddAdapter(this nn.Module model, AdapterConfig config)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(config);
        AdapterHandle handle = AdapterHandle.Attach(model, config);
        Handles.AddOrUpdate(model, handle);
        return handle;
    }

    /// <summary>The trainable parameters of every adapter in the model, with their names in <c>state_dict</c>.</summary>
    /// <param name="model">The model.</param>
    public static IEnumerable<(string name, Parameter parameter)> AdapterParameters(this nn.Module model)
    {
        ArgumentNullException.ThrowIfNull(model);
        return model.named_modules()
            .Where(entry => entry.module is AdapterLinear)
            .SelectMany(entry => ((AdapterLinear)entry.module).AdapterParameters().Select(own => ($"{entry.name}.{own.name}", own.parameter)))
            .DistinctBy(entry => entry.parameter.Handle);
    }

    /// <summary>
    /// Takes one step of load balancing in every adapter of the model that has a load bias, see <see cref="SMoRALinear.UpdateRouterBias"/>.
    /// Call it once per optimiser step.
    /// </summary>
    /// <param name="model">The model.</param>
    public static void UpdateRouterBias(this nn.Module model)
    {
        ArgumentNullException.ThrowIfNull(model);
        foreach (nn.Module module in model.modules())
        {
            if (module is SMoRALinear { HasLoadBias: true } adapter)
                adapter.UpdateRouterBias();
        }
    }

    /// <summary>
    /// Saves the adapter of the model as one safetensors file, with its configuration as JSON in the metadata. The tensors have PEFT's names,
    /// <c>base_model.model.&lt;path&gt;.lora_A.weight</c> and so on. The file appears complete or not at all.
    /// </summary>
    /// <param name="model">A model with an adapter that <see cref="AddAdapter"/> put there.</param>
    /// <param name="path">The file to write; one that exists is replaced.</param>
    /// <exception cref="InvalidOperationException">The model has no adapter.</exception>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public static void SaveAdapter(this nn.Module model, string path)
    {
        ArgumentNullException.ThrowIfNull(model);
        if (!Handles.TryGetValue(model, out AdapterHandle? handle))
            throw new InvalidOperationException($"The model has no adapter to save; call {nameof(AddAdapter)} first.");
        handle.Save(path);
    }

    /// <summary>
    /// Loads an adapter: into the one that the model has, or, when it has none, into a new one made from the configuration in the file.
    /// </summary>
    /// <param name="model">The model.</param>
    /// <param name="path">A file that <see cref="SaveAdapter"/> wrote.</param>
    /// <returns>The adapter's handle.</returns>
    /// <exception cref="InvalidDataException">
    /// The file is damaged, holds no configuration where one is needed, or a tensor is missing, unknown, or of another shape.
    /// </exception>
    public static AdapterHandle LoadAdapter(this nn.Module model, string path)
    {
        ArgumentNullException.ThrowIfNull(model);
        if (Handles.TryGetValue(model, out AdapterHandle? existing))
        {
            existing.Load(path);
            return existing;
        }
        AdapterHandle added = model.AddAdapter(AdapterFile.ReadConfiguration(path));
        try
        {
            added.Load(path);
        }
        catch
        {
            added.Dispose();
            throw;
        }
        return added;
    }

    internal static void Forget(nn.Module model) => Handles.Remove(model);
}
