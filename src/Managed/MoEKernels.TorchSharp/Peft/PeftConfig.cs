using System.Collections.ObjectModel;
using System.Text.Json;

namespace MoEKernels.TorchSharp;

/// <summary>
/// The content of PEFT's <c>adapter_config.json</c> for LoRA, rsLoRA and DoRA, and that of the same file in SMoRA's and CoMoL's repositories. The
/// defaults are PEFT's. Every property names the field it stands for; fields without a property are in <see cref="OtherFields"/> and
/// are written back as they were read.
/// </summary>
public sealed record PeftConfig
{
    /// <summary>Name of the file in an adapter's folder.</summary>
    public const string FileName = "adapter_config.json";

    /// <summary><see cref="PeftType"/> of LoRA, rsLoRA and DoRA.</summary>
    public const string LoraType = "LORA";

    /// <summary><see cref="PeftType"/> of SMoRA, which its authors' code calls SRMoLE.</summary>
    public const string SMoRAType = "SRMOLE";

    /// <summary><see cref="PeftType"/> of CoMoL.</summary>
    public const string CoMoLType = "MoCoreLORA";

    private static readonly ReadOnlyDictionary<string, long> NoRanks = ReadOnlyDictionary<string, long>.Empty;
    private static readonly ReadOnlyDictionary<string, double> NoAlphas = ReadOnlyDictionary<string, double>.Empty;

    /// <summary><c>peft_type</c>, the method. Default: <see cref="LoraType"/>.</summary>
    public string PeftType { get; init; } = LoraType;

    /// <summary><c>task_type</c>, for example <c>CAUSAL_LM</c>. Default: null.</summary>
    public string? TaskType { get; init; }

    /// <summary><c>base_model_name_or_path</c>, the model that the adapter was trained on. Default: null.</summary>
    public string? BaseModelNameOrPath { get; init; }

    /// <summary><c>revision</c> of the base model. Default: null.</summary>
    public string? Revision { get; init; }

    /// <summary><c>inference_mode</c>: the adapter is loaded frozen. PEFT writes true for every adapter it saves. Default: false.</summary>
    public bool InferenceMode { get; init; }

    /// <summary><c>r</c> (<c>lora_rank</c> in CoMoL's files), the rank, at least 1. Default: 8.</summary>
    public long Rank { get; init; } = 8;

    /// <summary><c>lora_alpha</c>, numerator of the scale. Default: 8.</summary>
    public double Alpha { get; init; } = 8;

    /// <summary><c>lora_dropout</c>, probability that an element of the adapter's input is dropped in training, 0 &lt;= p &lt; 1. Default: 0.</summary>
    public double Dropout { get; init; }

    /// <summary><c>target_modules</c>, the adapted layers. Null, PEFT's default, leaves the choice to PEFT's table of architectures.</summary>
    public PeftModules? TargetModules { get; init; }

    /// <summary><c>exclude_modules</c>, layers that are not adapted although <see cref="TargetModules"/> means them. Default: null.</summary>
    public PeftModules? ExcludeModules { get; init; }

    /// <summary><c>modules_to_save</c>, names of modules that are trained and saved as a whole. Default: null.</summary>
    public IReadOnlyList<string>? ModulesToSave { get; init; }

    /// <summary><c>fan_in_fan_out</c>: the base layer's weight is [d_in, d_out], as in GPT-2. The adapter's own shapes do not depend on it. Default: false.</summary>
    public bool FanInFanOut { get; init; }

    /// <summary><c>bias</c>, which biases of the base model belong to the adapter. Default: none.</summary>
    public PeftBias Bias { get; init; }

    /// <summary><c>lora_bias</c>: B has a bias. Default: false.</summary>
    public bool LoraBias { get; init; }

    /// <summary><c>use_rslora</c>: the scale is alpha / sqrt(r) instead of alpha / r. Default: false.</summary>
    public bool UseRsLora { get; init; }

    /// <summary><c>use_dora</c>: weight = m (W + s B A) / ||W + s B A|| by rows. Default: false.</summary>
    public bool UseDora { get; init; }

    /// <summary>
    /// <c>init_lora_weights</c>, how PEFT starts an adapter: <c>true</c>, <c>false</c> (both JSON's words in the file), or a name like <c>gaussian</c> or
    /// <c>pissa</c>. Default: <c>true</c>.
    /// </summary>
    public string InitLoraWeights { get; init; } = "true";

    /// <summary><c>layers_to_transform</c>, indices of the layers that are adapted; null, the default: all.</summary>
    public IReadOnlyList<long>? LayersToTransform { get; init; }

    /// <summary><c>layers_pattern</c>, names of the list of layers in paths, used with <see cref="LayersToTransform"/>; null, the default: any.</summary>
    public IReadOnlyList<string>? LayersPattern { get; init; }

    /// <summary>
    /// <c>rank_pattern</c>, ranks of layers that differ from <see cref="Rank"/>, by a name or regular expression for the end of the path. The first that
    /// matches counts. Default: empty.
    /// </summary>
    public IReadOnlyDictionary<string, long> RankPattern { get; init; } = NoRanks;

    /// <summary><c>alpha_pattern</c>, the same for <see cref="Alpha"/>. Default: empty.</summary>
    public IReadOnlyDictionary<string, double> AlphaPattern { get; init; } = NoAlphas;

    /// <summary>
    /// Every field that has no property, as it is in the file. A new configuration has the ones that PEFT writes for a LoRA, with PEFT's values.
    /// </summary>
    public IReadOnlyDictionary<string, JsonElement> OtherFields { get; init; } = PeftConfigJson.LoraDefaults;

    /// <summary>Reads a configuration.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidDataException">It is not JSON, or a field is of the wrong kind; the message names file and field.</exception>
    /// <exception cref="IOException">It does not exist or cannot be read.</exception>
    public static PeftConfig Load(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        using FileStream stream = File.OpenRead(path);
        return PeftConfigJson.Read(stream, path);
    }

    /// <summary>Reads a configuration.</summary>
    /// <param name="stream">JSON; it is read to its end and left open.</param>
    /// <exception cref="InvalidDataException">It is not JSON, or a field is of the wrong kind; the message names the field.</exception>
    public static PeftConfig Load(Stream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        return PeftConfigJson.Read(stream, "stream");
    }

    /// <summary>Writes the configuration as PEFT does: indented by two, fields in alphabetical order. The file appears complete or not at all.</summary>
    /// <param name="path">The file; one that exists is replaced.</param>
    /// <exception cref="ArgumentException">A value is out of its range.</exception>
    public void Save(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        byte[] json = PeftConfigJson.Write(this);
        AtomicFile.Write(path, stream => stream.Write(json));
    }

    /// <summary>Writes the configuration to a stream, see <see cref="Save(string)"/>.</summary>
    /// <param name="stream">The stream; it is left open.</param>
    /// <exception cref="ArgumentException">A value is out of its range.</exception>
    public void Save(Stream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        stream.Write(PeftConfigJson.Write(this));
    }

    /// <summary>Whether PEFT would adapt a layer: targeted, not excluded, not saved as a whole, and of a transformed layer.</summary>
    /// <param name="path">Path of the module, without <c>base_model.model.</c></param>
    public bool Targets(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        if (TargetModules is null || ExcludeModules?.Matches(path) == true || IsSavedWhole(path))
            return false;
        if (TargetModules.Contains(path))
            return true;
        if (!TargetModules.Matches(path))
            return false;
        if (TargetModules.Pattern is not null || LayersToTransform is not { Count: > 0 } layers)
            return true;
        long? index = LayersPattern is { Count: > 0 } patterns
            ? patterns.Select(pattern => PythonRegex.LayerIndex(pattern, path)).FirstOrDefault(found => found is not null)
            : PythonRegex.LayerIndex(null, path);
        return index is { } at && layers.Contains(at);
    }

    /// <summary>Rank of a layer: <see cref="RankPattern"/>, else <see cref="Rank"/>.</summary>
    /// <param name="path">Path of the module, without <c>base_model.model.</c></param>
    public long RankOf(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        foreach ((string pattern, long rank) in RankPattern)
        {
            if (PythonRegex.IsPathEnd(pattern, path))
                return rank;
        }
        return Rank;
    }

    /// <summary>Alpha of a layer: <see cref="AlphaPattern"/>, else <see cref="Alpha"/>.</summary>
    /// <param name="path">Path of the module, without <c>base_model.model.</c></param>
    public double AlphaOf(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        foreach ((string pattern, double alpha) in AlphaPattern)
        {
            if (PythonRegex.IsPathEnd(pattern, path))
                return alpha;
        }
        return Alpha;
    }

    /// <summary>
    /// Scale of a layer's adapter: alpha / r, alpha / sqrt(r) with <see cref="UseRsLora"/>, alpha / k for SMoRA, each with the layer's own alpha and r.
    /// </summary>
    /// <param name="path">Path of the module, without <c>base_model.model.</c></param>
    public double ScaleOf(string path) =>
        PeftType == SMoRAType ? AlphaOf(path) / PeftConfigJson.ActiveRanks(this)
        : UseRsLora ? AlphaOf(path) / Math.Sqrt(RankOf(path))
        : AlphaOf(path) / RankOf(path);

    /// <summary>Whether a tensor below this path belongs to a module that is saved as a whole.</summary>
    internal bool IsSavedWhole(string path) =>
        ModulesToSave is not null && ModulesToSave.Any(name => PythonRegex.IsFullMatch($@"(?:.*\.)?(?:{name})(?:\..*)?", path));
}
