using MoEKernels.TorchSharp;

using static TorchSharp.torch;

namespace Llama;

/// <summary>Reads the weights of a model folder. Names, shapes and types of all tensors are checked before the first is read.</summary>
internal static class CheckpointLoader
{
    private const string OutputLayer = "lm_head.weight";
    private const string EmbeddingTable = "model.embed_tokens.weight";

    /// <summary>Old checkpoints hold the rotary frequencies, which follow from the configuration.</summary>
    private const string RotaryFrequencies = ".rotary_emb.inv_freq";

    /// <summary>Reads a model.</summary>
    /// <param name="folder">The folder with config.json and the weights.</param>
    /// <param name="dtype">The element type that the weights get, whatever that of the files is.</param>
    /// <param name="stage">Told how many layers are read, the tensors outside of them counted among them; null: nobody is.</param>
    /// <returns>The model, in evaluation mode.</returns>
    /// <exception cref="UserException">The folder lacks a file, or a tensor is missing, unknown, or of another shape or an unknown type.</exception>
    public static CausalModel Load(string folder, ScalarType dtype, IProgress<StepReport>? stage = null) =>
        Load(folder, ModelConfigReader.Read(folder), dtype, stage);

    /// <inheritdoc cref="Load(string, ScalarType, IProgress{StepReport})"/>
    /// <param name="config">The folder's configuration.</param>
    public static CausalModel Load(string folder, ModelConfig config, ScalarType dtype, IProgress<StepReport>? stage = null)
    {
        try
        {
            using SafetensorsCheckpoint checkpoint = SafetensorsCheckpoint.Open(folder);
            CausalModel model = new(config, dtype);
            try
            {
                Fill(model, checkpoint, folder, stage);
                model.eval();
                return model;
            }
            catch
            {
                model.Dispose();
                throw;
            }
        }
        catch (Exception failure) when (failure is IOException or InvalidDataException or UnauthorizedAccessException)
        {
            throw new UserException($"cannot read the weights: {failure.Message}", failure);
        }
    }

    private static void Fill(CausalModel model, SafetensorsCheckpoint checkpoint, string folder, IProgress<StepReport>? stage)
    {
        Dictionary<string, Tensor> places = model.state_dict();
        Check(places, checkpoint, folder, model.Config.TiedEmbeddings);
        using var noGradients = no_grad();
        int done = 0;
        foreach ((string name, Tensor place) in places)
        {
            using var scope = NewDisposeScope();
            place.copy_(checkpoint.Read(name));
            stage?.Report(new StepReport((int)((long)++done * model.Config.Layers / places.Count)));
        }
    }

    private static void Check(Dictionary<string, Tensor> places, SafetensorsCheckpoint checkpoint, string folder, bool tied)
    {
        string[] missing = [.. places.Keys.Where(name => !checkpoint.Contains(name))];
        if (missing.Length > 0)
            throw new UserException($"'{folder}' lacks {Tensors(missing.Length)} of the model; the first is '{missing[0]}' of shape {Shape(places[missing[0]].shape)}");

        string[] unknown = [.. checkpoint.Names
            .Where(name => !places.ContainsKey(name) && !name.EndsWith(RotaryFrequencies, StringComparison.Ordinal) && !(tied && name == OutputLayer))
            .Order(StringComparer.Ordinal)];
        if (unknown.Length > 0)
            throw new UserException($"'{folder}' has {Tensors(unknown.Length)} that the model of its {ModelConfigReader.FileName} has no place for; the first is {checkpoint.Describe(unknown[0])}");

        foreach ((string name, Tensor place) in places)
        {
            SafetensorsEntry entry = checkpoint.Describe(name);
            if (!entry.Shape.SequenceEqual(place.shape))
                throw new UserException($"'{folder}': the tensor '{name}' has shape {Shape(entry.Shape.ToArray())}; expected {Shape(place.shape)}");
            if (entry.ScalarType is not (ScalarType.Float32 or ScalarType.BFloat16 or ScalarType.Float16 or ScalarType.Float64))
                throw new UserException($"'{folder}': the tensor '{name}' is {entry.DType}; expected F32, BF16, F16 or F64");
        }

        if (tied && checkpoint.Contains(OutputLayer))
            CheckTied(checkpoint, folder);
    }

    /// <summary>A tied output layer may be in the file once more, but not with other values: then it is not clear which are meant.</summary>
    private static void CheckTied(SafetensorsCheckpoint checkpoint, string folder)
    {
        using var scope = NewDisposeScope();
        bool same = checkpoint.Describe(OutputLayer).Shape.SequenceEqual(checkpoint.Describe(EmbeddingTable).Shape)
            && checkpoint.Read(OutputLayer).eq(checkpoint.Read(EmbeddingTable)).all().item<bool>();
        if (!same)
            throw new UserException($"'{folder}': the tensor '{OutputLayer}' differs from '{EmbeddingTable}'; expected the same values or no such tensor, since tie_word_embeddings is true");
    }

    private static string Tensors(int count) => count == 1 ? "1 tensor" : $"{count} tensors";

    private static string Shape(long[] shape) => $"[{string.Join(", ", shape)}]";
}
