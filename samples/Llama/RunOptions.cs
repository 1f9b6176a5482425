using static TorchSharp.torch;

namespace Llama;

/// <summary>A model to load, adapt and let write.</summary>
/// <param name="Model">The model's folder.</param>
internal sealed record RunOptions(string Model) : Request
{
    /// <summary>Training steps of a new adapter where none are asked for.</summary>
    public const int DefaultSteps = 50;

    /// <summary>The method of a new adapter.</summary>
    public AdapterKind Adapter { get; init; } = AdapterKind.SMoRA;

    /// <summary>The folder of a saved adapter that is used instead of a new one; null: none.</summary>
    public string? LoadAdapter { get; init; }

    /// <summary>Training steps; 0: none, and without a loaded adapter the model stays as it is.</summary>
    public int Steps { get; init; } = DefaultSteps;

    /// <summary>The rank of a new adapter.</summary>
    public int Rank { get; init; } = 16;

    /// <summary>The layers of a new adapter.</summary>
    public IReadOnlyList<string> Targets { get; init; } = AdapterChoice.Projections;

    /// <summary>The learning rate after the warm-up.</summary>
    public double LearningRate { get; init; } = 1e-3;

    /// <summary>Tokens in a block of training text.</summary>
    public int Context { get; init; } = 128;

    /// <summary>Blocks in a step.</summary>
    public int Batch { get; init; } = 4;

    /// <summary>Whether backward computes blocks again instead of keeping activations.</summary>
    public bool Recompute { get; init; }

    /// <summary>The element type of the frozen model.</summary>
    public ScalarType DType { get; init; } = ScalarType.Float32;

    /// <summary>The text to continue; null: none.</summary>
    public string? Prompt { get; init; }

    /// <summary>How it is continued.</summary>
    public GenerationOptions Generation { get; init; } = new();

    /// <summary>Where a trained adapter is saved.</summary>
    public string Output { get; init; } = Path.Combine("out", "llama");

    /// <summary>CPU threads, for libtorch and for the kernels alike.</summary>
    public int Threads { get; init; } = Environment.ProcessorCount;
}
