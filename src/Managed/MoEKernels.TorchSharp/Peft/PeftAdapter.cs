using System.Collections.ObjectModel;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// An adapter as PEFT saves it, in host memory: the configuration (<c>adapter_config.json</c>) and the tensors by PEFT's names
/// (<c>adapter_model.safetensors</c>). It knows no model; <see cref="Apply"/> brings it into one, <see cref="Extract"/> takes it out of one, and
/// <see cref="PeftMath"/> computes with whole adapters.
/// </summary>
/// <remarks>
/// <para>Names, after <c>base_model.model.&lt;path of the layer&gt;.</c>:</para>
/// <list type="table">
/// <item><term><c>lora_A.weight</c>, <c>lora_B.weight</c></term><description>[r, d_in] and [d_out, r]; for every method</description></item>
/// <item><term><c>lora_B.bias</c></term><description>[d_out], with <see cref="PeftConfig.LoraBias"/></description></item>
/// <item><term><c>lora_magnitude_vector</c></term><description>[d_out], DoRA</description></item>
/// <item><term><c>lora_embedding_A</c>, <c>lora_embedding_B</c></term><description>[r, number of embeddings] and [width, r], embeddings</description></item>
/// <item><term><c>lora_router.weight</c>, <c>lora_biases</c></term><description>[r / rank partition, d_in] and [r], SMoRA</description></item>
/// <item><term><c>lora_router.weight</c>, <c>lora_Cores.0</c> …</term><description>[E, r] or [E, d_in], and E of [r, r], CoMoL</description></item>
/// <item><term>anything else</term><description>tensors of <see cref="PeftConfig.ModulesToSave"/>, biases of the base model; kept as they are</description></item>
/// </list>
/// </remarks>
public sealed partial class PeftAdapter : IDisposable
{
    /// <summary>Name of the weights' file in an adapter's folder.</summary>
    public const string WeightsFileName = "adapter_model.safetensors";

    private readonly Dictionary<string, Tensor> _tensors;
    private readonly Dictionary<string, PeftLayer> _layers;

    /// <summary>Makes an adapter from its parts.</summary>
    /// <param name="config">The configuration.</param>
    /// <param name="tensors">The tensors by PEFT's names. They become the adapter's, which disposes them; they leave their DisposeScope.</param>
    /// <exception cref="ArgumentException">
    /// A layer lacks A or B, shapes do not fit each other or the configuration, or a tensor is not of a floating-point type. The tensors are still the
    /// caller's then.
    /// </exception>
    public PeftAdapter(PeftConfig config, IEnumerable<KeyValuePair<string, Tensor>> tensors)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(tensors);
        var byName = new Dictionary<string, Tensor>(StringComparer.Ordinal);
        foreach ((string name, Tensor tensor) in tensors)
        {
            if (!byName.TryAdd(name, tensor))
                throw new ArgumentException($"There are two tensors '{name}'.", nameof(tensors));
        }
        if (PeftAdapterChecks.TryGetLayers(config, byName, out _layers) is { } problem)
            throw new ArgumentException(problem, nameof(tensors));
        foreach (Tensor tensor in byName.Values)
            tensor.DetachFromDisposeScope();
        _tensors = byName;
        Config = config;
        Tensors = new ReadOnlyDictionary<string, Tensor>(_tensors);
        Layers = new ReadOnlyDictionary<string, PeftLayer>(_layers);
    }

    /// <summary>The configuration.</summary>
    public PeftConfig Config { get; }

    /// <summary>Every tensor by PEFT's name. They live as long as the adapter.</summary>
    public IReadOnlyDictionary<string, Tensor> Tensors { get; }

    /// <summary>The adapted layers by their path in the model.</summary>
    public IReadOnlyDictionary<string, PeftLayer> Layers { get; }

    /// <summary>Reads an adapter from its folder.</summary>
    /// <param name="folder">A folder with <see cref="PeftConfig.FileName"/> and <see cref="WeightsFileName"/>.</param>
    /// <exception cref="InvalidDataException">A file is damaged, or the tensors do not fit the configuration; the message names file and field or tensor.</exception>
    /// <exception cref="IOException">A file does not exist or cannot be read.</exception>
    public static PeftAdapter Load(string folder)
    {
        ArgumentException.ThrowIfNullOrEmpty(folder);
        PeftConfig config = PeftConfig.Load(Path.Combine(folder, PeftConfig.FileName));
        string weights = Path.Combine(folder, WeightsFileName);
        if (!File.Exists(weights) && File.Exists(Path.Combine(folder, "adapter_model.bin")))
            throw new FileNotFoundException($"'{folder}' has adapter_model.bin, a Python pickle, instead of {WeightsFileName}; save it from PEFT with safe_serialization=True.", weights);
        return FromLoaded(config, SafetensorsFile.Load(weights), weights);
    }

    /// <summary>Reads an adapter from streams.</summary>
    /// <param name="config">The configuration's JSON; it is read to its end and left open.</param>
    /// <param name="weights">The safetensors file; it must be seekable and is left open.</param>
    /// <exception cref="InvalidDataException">A stream's content is damaged, or the tensors do not fit the configuration.</exception>
    public static PeftAdapter Load(Stream config, Stream weights) =>
        FromLoaded(PeftConfig.Load(config), SafetensorsFile.Load(weights), "stream");

    /// <summary>Writes the adapter as PEFT does. Each file appears complete or not at all.</summary>
    /// <param name="folder">The folder; it is made when missing, and files in it are replaced.</param>
    /// <exception cref="IOException">A file cannot be written.</exception>
    public void Save(string folder)
    {
        ArgumentException.ThrowIfNullOrEmpty(folder);
        Directory.CreateDirectory(folder);
        SafetensorsFile.Save(Path.Combine(folder, WeightsFileName), _tensors, Metadata);
        Config.Save(Path.Combine(folder, PeftConfig.FileName));
    }

    /// <summary>Writes the adapter to streams, see <see cref="Save(string)"/>.</summary>
    /// <param name="config">Receives the configuration's JSON; it is left open.</param>
    /// <param name="weights">Receives the safetensors file; it is left open.</param>
    public void Save(Stream config, Stream weights)
    {
        Config.Save(config);
        SafetensorsFile.SaveTo(weights, _tensors, Metadata);
    }

    /// <summary>A copy with its own tensors.</summary>
    public PeftAdapter Clone()
    {
        using var noGrad = no_grad();
        return new PeftAdapter(Config, _tensors.Select(entry => KeyValuePair.Create(entry.Key, entry.Value.detach().clone())).ToArray());
    }

    /// <summary>Frees the tensors.</summary>
    public void Dispose()
    {
        foreach (Tensor tensor in _tensors.Values)
            tensor.Dispose();
    }

    // As PEFT writes it.
    private static Dictionary<string, string> Metadata => new() { ["format"] = "pt" };

    private static PeftAdapter FromLoaded(PeftConfig config, IReadOnlyDictionary<string, Tensor> tensors, string source)
    {
        try
        {
            return new PeftAdapter(config, tensors);
        }
        catch (Exception e)
        {
            foreach (Tensor tensor in tensors.Values)
                tensor.Dispose();
            if (e is ArgumentException or InvalidDataException)
                throw new InvalidDataException($"'{source}': {e.Message}", e);
            throw;
        }
    }
}
