using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>Adapters on whole models.</summary>
public static partial class AdapterExtensions
{
    /// <summary>Adds an adapter called "default", see <see cref="AddAdapter(nn.Module, string, AdapterConfig)"/>.</summary>
    /// <param name="model">The model.</param>
    /// <param name="config">Which layers, and which adapter.</param>
    /// <returns>A handle that can take the adapter out again.</returns>
    /// <exception cref="ArgumentException">The configuration is out of its range, or matches no Linear layer.</exception>
    /// <exception cref="InvalidOperationException">The model has such an adapter already, or a field cannot hold one.</exception>
    public static AdapterHandle AddAdapter(this nn.Module model, AdapterConfig config) => model.AddAdapter(AdapterName.Default, config);

    /// <summary>
    /// Wraps the <see cref="Linear"/> layers that the configuration names, in place, and freezes everything but the new adapter, which becomes
    /// the only one in use. Nothing has changed when it throws.
    /// </summary>
    /// <remarks>
    /// Names in <c>state_dict</c> depend on the adapter's name: the tensors of "default" lie directly below the layer's path
    /// (<c>blocks.0.query.lora_A.weight</c>), those of any other one below its name (<c>blocks.0.query.french.lora_A.weight</c>).
    /// </remarks>
    /// <param name="model">
    /// The model. A layer is replaced wherever the tree of modules refers to it: registries, containers, fields. A field of type Linear
    /// cannot hold an adapter, since that class is sealed: declare such fields as <c>Module&lt;Tensor, Tensor&gt;</c>.
    /// </param>
    /// <param name="name">The adapter's name, new in the model: letters, digits, '_' and '-'.</param>
    /// <param name="config">Which layers, and which adapter.</param>
    /// <returns>A handle that can take the adapter out again.</returns>
    /// <exception cref="ArgumentException">Name or configuration is out of its range, or no Linear layer matches.</exception>
    /// <exception cref="InvalidOperationException">
    /// The model has an adapter of that name already, a merged one, or one that was not added to it but to a part of it; or a field cannot hold an
    /// adapter.
    /// </exception>
    public static AdapterHandle AddAdapter(this nn.Module model, string name, AdapterConfig config)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(config);
        return ModelAdapters.Attach(model, name, config);
    }

    /// <summary>The model's adapters in the order in which they were added; none for a model without.</summary>
    /// <param name="model">The model.</param>
    public static IReadOnlyList<AdapterHandle> Adapters(this nn.Module model)
    {
        ArgumentNullException.ThrowIfNull(model);
        return ModelAdapters.Of(model)?.Handles is { } handles ? [.. handles] : [];
    }

    /// <summary>The handle of an adapter.</summary>
    /// <param name="model">The model.</param>
    /// <param name="name">The adapter's name.</param>
    /// <exception cref="ArgumentException">The model has no adapter of that name; the message lists those it has.</exception>
    /// <exception cref="InvalidOperationException">The model has no adapter at all.</exception>
    public static AdapterHandle GetAdapter(this nn.Module model, string name) => ModelAdapters.Require(model).Find(name);

    /// <summary>
    /// Puts adapters to use, one or several, and all others out of use: only these take part in forward, their sum where they share a layer, and
    /// only their parameters require gradients.
    /// </summary>
    /// <param name="model">The model.</param>
    /// <param name="names">The adapters' names, at least one.</param>
    /// <exception cref="ArgumentException">The model has no adapter of a name, or none is named.</exception>
    /// <exception cref="InvalidOperationException">
    /// An adapter that is merged would be put out of use, or two of them train the same module as a whole.
    /// </exception>
    public static void SetAdapter(this nn.Module model, params string[] names)
    {
        ModelAdapters adapters = ModelAdapters.Require(model);
        ArgumentNullException.ThrowIfNull(names);
        adapters.SetActive([.. names.Select(adapters.Find).Distinct()]);
    }

    /// <summary>Takes an adapter out of the model and frees it, see <see cref="AdapterHandle.Remove"/>.</summary>
    /// <param name="model">The model.</param>
    /// <param name="name">The adapter's name.</param>
    /// <exception cref="ArgumentException">The model has no adapter of that name.</exception>
    /// <exception cref="InvalidOperationException">The model has no adapter, or a layer of this one has a merged adapter.</exception>
    public static void RemoveAdapter(this nn.Module model, string name)
    {
        AdapterHandle handle = model.GetAdapter(name);
        handle.Remove();
        handle.Dispose();
    }

    /// <summary>
    /// Switches all adapters of the model off, so that it computes what it does without them, or on again as they were. Gradients are left alone.
    /// </summary>
    /// <param name="model">The model.</param>
    /// <param name="enabled">Whether those in use take part.</param>
    /// <exception cref="InvalidOperationException">The model has no adapter, or one to be switched off is merged.</exception>
    public static void SetAdaptersEnabled(this nn.Module model, bool enabled) => ModelAdapters.Require(model).SetEnabled(enabled);

    /// <summary>Switches all adapters of the model off until the result is disposed of: <c>using (model.WithoutAdapters()) { … }</c></summary>
    /// <param name="model">The model.</param>
    /// <exception cref="InvalidOperationException">The model has no adapter, or one in use is merged.</exception>
    public static IDisposable WithoutAdapters(this nn.Module model)
    {
        ModelAdapters adapters = ModelAdapters.Require(model);
        bool before = adapters.Enabled;
        adapters.SetEnabled(false);
        return new Restore(() => adapters.SetEnabled(before));
    }

    /// <summary>
    /// Lets every row of a batch use an adapter of its own, as servers of many adapters do (S-LoRA, arXiv 2311.03285; Punica, arXiv 2310.18547), until the result is
    /// disposed of: <c>using (model.UseAdapters(["french", "legal", null])) { … }</c>. PEFT: <c>adapter_names</c> of <c>generate</c>, with "__base__" for null.
    /// </summary>
    /// <remarks>
    /// <para>
    /// A row is what one index of the first dimension of every adapted layer's input holds: [rows, .., d_in]. Which adapters are in use otherwise
    /// does not matter; those named here may be switched off. A layer that a row's adapter lacks computes what it does without it.
    /// </para>
    /// <para>
    /// All LoRA, rsLoRA, PiSSA, MiLoRA and OLoRA adapters of a layer, of any ranks, are one call of the fused op; the others compute their rows one after the other. The stacked
    /// factors are made when a layer first runs and kept until the end, so values that are changed or loaded meanwhile have no effect there.
    /// </para>
    /// </remarks>
    /// <param name="model">The model, in evaluation mode.</param>
    /// <param name="rows">The adapter's name for each row; null: no adapter.</param>
    /// <exception cref="ArgumentException">There is no row, or the model has no adapter of a name.</exception>
    /// <exception cref="InvalidOperationException">
    /// The model has no adapter or is in training mode, an adapter is merged, or one that is named or in use trains a module as a whole.
    /// </exception>
    public static IDisposable UseAdapters(this nn.Module model, IReadOnlyList<string?> rows)
    {
        ModelAdapters adapters = ModelAdapters.Require(model);
        ArgumentNullException.ThrowIfNull(rows);
        return adapters.UseRows([.. rows.Select(name => name is null ? null : adapters.Find(name))]);
    }

    /// <summary>Lets every row of a batch use an adapter of its own, by numbers, see <see cref="UseAdapters(nn.Module, IReadOnlyList{string?})"/>.</summary>
    /// <param name="model">The model, in evaluation mode.</param>
    /// <param name="names">The names of adapters.</param>
    /// <param name="ids">For each row the position of its adapter in <paramref name="names"/>; -1: no adapter.</param>
    /// <exception cref="ArgumentException">There is no row, an id is out of its range, or the model has no adapter of a name.</exception>
    /// <exception cref="InvalidOperationException">As for names.</exception>
    public static IDisposable UseAdapters(this nn.Module model, IReadOnlyList<string> names, IReadOnlyList<int> ids)
    {
        ModelAdapters adapters = ModelAdapters.Require(model);
        ArgumentNullException.ThrowIfNull(names);
        ArgumentNullException.ThrowIfNull(ids);
        AdapterHandle[] handles = [.. names.Select(adapters.Find)];
        for (int row = 0; row < ids.Count; row++)
        {
            if (ids[row] < -1 || ids[row] >= handles.Length)
                throw new ArgumentOutOfRangeException(nameof(ids), ids[row], $"Expected -1 to {handles.Length - 1} for row {row}.");
        }
        return adapters.UseRows([.. ids.Select(id => id < 0 ? null : handles[id])]);
    }

    /// <summary>
    /// Adds adapters to the base weights for good and takes all adapters out: the model has its original layers again, and no trace of the others.
    /// </summary>
    /// <param name="model">The model.</param>
    /// <param name="names">The adapters to merge; none: those in use.</param>
    /// <exception cref="ArgumentException">The model has no adapter of a name.</exception>
    /// <exception cref="InvalidOperationException">
    /// The model has no adapter, or an adapter cannot be one matrix, as SMoRA and CoMoL, whose weights depend on the token. Nothing has changed then.
    /// </exception>
    public static void MergeAndUnload(this nn.Module model, params string[] names)
    {
        ModelAdapters adapters = ModelAdapters.Require(model);
        ArgumentNullException.ThrowIfNull(names);
        adapters.MergeAndUnload(names.Length > 0 ? [.. names.Select(adapters.Find).Distinct()] : [.. adapters.Handles.Where(handle => handle.IsEnabled)]);
    }

    /// <summary>
    /// Converts the model to an element type, as <c>to()</c> does, but leaves the adapters in theirs: a model in half precision then has f32 master
    /// adapters, whose small steps a half-precision number would swallow. PEFT: <c>autocast_adapter_dtype=True</c>, its default.
    /// </summary>
    /// <remarks>
    /// <para>
    /// Adapter tensors stay the objects they are, so an optimiser that has them goes on with them; modules to save are converted with the
    /// model. Adapters whose type could not serve the new one (f32 below f64, half precision below f32) become f32, or f64 below f64.
    /// </para>
    /// <para>Plain <c>to()</c> converts everything. Adapters that are added to a half-precision model are f32 from the start, see <see cref="AdapterConfig.ParameterType"/>.</para>
    /// </remarks>
    /// <param name="model">A model, with or without adapters, or a module of this library.</param>
    /// <param name="type">Float32, BFloat16, Float16 or Float64.</param>
    /// <param name="device">Where everything moves as well, the adapters included; moving makes new parameters. Null: it stays where it is.</param>
    /// <returns>The model.</returns>
    /// <exception cref="ArgumentException">The type is another one.</exception>
    public static T ToKeepingAdapters<T>(this T model, ScalarType type, Device? device = null)
        where T : nn.Module
    {
        ArgumentNullException.ThrowIfNull(model);
        if (!TensorTypes.IsSupported(type))
            throw new ArgumentException($"The type is {type}; expected Float32, BFloat16, Float16 or Float64.", nameof(type));
        HashSet<AdapterLinear> adapters = Distinct<AdapterLinear>(model);
        foreach (AdapterLinear adapter in adapters)
            adapter.KeepsType = true;
        try
        {
            return device is null ? model.to(type) : model.to(device, type);
        }
        finally
        {
            foreach (AdapterLinear adapter in adapters)
                adapter.KeepsType = false;
        }
    }

    /// <summary>
    /// The parameters of the model's adapters that require gradients, with their names in <c>state_dict</c>: those of the adapters in use, and of
    /// the modules that they train as a whole.
    /// </summary>
    /// <param name="model">The model.</param>
    public static IEnumerable<(string name, Parameter parameter)> AdapterParameters(this nn.Module model)
    {
        ArgumentNullException.ThrowIfNull(model);
        IEnumerable<(string name, Parameter parameter)> inLayers = model.named_modules()
            .Where(entry => entry.module is AdapterLinear)
            .SelectMany(entry => ((AdapterLinear)entry.module).AdapterParameters().Select(own => ($"{entry.name}.{own.name}", own.parameter)));
        IEnumerable<(string name, Parameter parameter)> saved = model.Adapters()
            .SelectMany(handle => handle.SavedModules)
            .SelectMany(module => module.Parameters());
        return inLayers.Concat(saved).Where(entry => entry.parameter.requires_grad).DistinctBy(entry => entry.parameter.Handle);
    }

    /// <summary>
    /// Saves an adapter of the model as one safetensors file, with its configuration as JSON in the metadata. The tensors have PEFT's names,
    /// <c>base_model.model.&lt;path&gt;.lora_A.weight</c> and so on, without the adapter's name. The file appears complete or not at all.
    /// </summary>
    /// <param name="model">A model with one adapter, or with one called "default".</param>
    /// <param name="path">The file to write; one that exists is replaced.</param>
    /// <exception cref="InvalidOperationException">The model has no adapter, or several and none called "default".</exception>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public static void SaveAdapter(this nn.Module model, string path)
    {
        ArgumentNullException.ThrowIfNull(model);
        if (ModelAdapters.Of(model) is not { } adapters)
            throw new InvalidOperationException($"The model has no adapter to save; call {nameof(AddAdapter)} first.");
        adapters.Single().Save(path);
    }

    /// <summary>
    /// Loads an adapter: into the model's only one, or its "default" one, or, when it has none, into a new one made from the configuration in the
    /// file.
    /// </summary>
    /// <param name="model">The model.</param>
    /// <param name="path">A file that <see cref="SaveAdapter"/> wrote.</param>
    /// <returns>The adapter's handle.</returns>
    /// <exception cref="InvalidDataException">
    /// The file is damaged, holds no configuration where one is needed, or a tensor is missing, unknown, or of another shape.
    /// </exception>
    /// <exception cref="InvalidOperationException">The model has several adapters, none of them called "default", or the adapter is merged.</exception>
    public static AdapterHandle LoadAdapter(this nn.Module model, string path)
    {
        ArgumentNullException.ThrowIfNull(model);
        if (ModelAdapters.Of(model) is not { } adapters)
            return LoadNew(model, AdapterName.Default, path);
        AdapterHandle existing = adapters.Single();
        existing.Load(path);
        return existing;
    }

    /// <summary>Loads an adapter: into the one of that name, or, when the model has none, into a new one made from the configuration in the file.</summary>
    /// <param name="model">The model.</param>
    /// <param name="name">The adapter's name.</param>
    /// <param name="path">A file that <see cref="SaveAdapter"/> or <see cref="AdapterHandle.Save"/> wrote.</param>
    /// <returns>The adapter's handle.</returns>
    /// <exception cref="ArgumentException">The name cannot be one.</exception>
    /// <exception cref="InvalidDataException">
    /// The file is damaged, holds no configuration where one is needed, or a tensor is missing, unknown, or of another shape.
    /// </exception>
    /// <exception cref="InvalidOperationException">The adapter, or one beside a new one, is merged.</exception>
    public static AdapterHandle LoadAdapter(this nn.Module model, string name, string path)
    {
        ArgumentNullException.ThrowIfNull(model);
        AdapterName.Check(name);
        foreach (AdapterHandle handle in model.Adapters())
        {
            if (handle.Name != name)
                continue;
            handle.Load(path);
            return handle;
        }
        return LoadNew(model, name, path);
    }

    private static AdapterHandle LoadNew(nn.Module model, string name, string path)
    {
        string[] inUse = [.. model.Adapters().Where(handle => handle.IsEnabled).Select(handle => handle.Name)];
        AdapterHandle added = model.AddAdapter(name, AdapterFile.ReadConfiguration(path));
        try
        {
            added.Load(path);
        }
        catch
        {
            added.Dispose();
            if (inUse.Length > 0)
                model.SetAdapter(inUse);
            throw;
        }
        return added;
    }

    internal sealed class Restore(Action restore) : IDisposable
    {
        private Action? _restore = restore;

        public void Dispose() => Interlocked.Exchange(ref _restore, null)?.Invoke();
    }
}
