namespace FineTune;

/// <summary>The user's own text for one domain.</summary>
/// <param name="Domain">The name shown in tables and plots.</param>
/// <param name="Path">A file, or a folder that is read with everything below it.</param>
internal sealed record DataSource(string Domain, string Path);

/// <summary>Everything a run depends on; the same options on the same machine give the same losses.</summary>
internal sealed record Options
{
    /// <summary>The user's text; empty for the default, the repository's own hand-written files.</summary>
    public IReadOnlyList<DataSource> Data { get; init; } = [];

    /// <summary>The folder the run writes to.</summary>
    public string Out { get; init; } = Path.Combine("out", "finetune");

    /// <summary>The seed of weights and batches.</summary>
    public int Seed { get; init; } = 1;

    /// <summary>Optimizer steps that pre-train the base.</summary>
    public int BaseSteps { get; init; } = 500;

    /// <summary>Optimizer steps of each adapter.</summary>
    public int Steps { get; init; } = 250;

    /// <summary>The model's width; a multiple of <see cref="HeadWidth"/>.</summary>
    public int Width { get; init; } = 128;

    /// <summary>The number of transformer blocks.</summary>
    public int Layers { get; init; } = 4;

    /// <summary>The length of a training sequence in bytes.</summary>
    public int Context { get; init; } = 256;

    /// <summary>Sequences in a batch.</summary>
    public int Batch { get; init; } = 8;

    /// <summary>SMoRA's rank; the other adapters get the rank that costs about as many parameters.</summary>
    public int Rank { get; init; } = 16;

    /// <summary>The adapters to train, in order.</summary>
    public IReadOnlyList<AdapterKind> Adapters { get; init; } = [AdapterKind.Lora, AdapterKind.SMoRA, AdapterKind.CoMoL];

    /// <summary>CPU threads, for libtorch and for the kernels alike.</summary>
    public int Threads { get; init; } = Environment.ProcessorCount;

    /// <summary>Whether this is the short run.</summary>
    public bool Quick { get; init; }

    /// <summary>The width of an attention head.</summary>
    public const int HeadWidth = 32;

    /// <summary>The settings of <c>--quick</c>: the whole road in well under a minute on two cores.</summary>
    public static Options ForQuickRun { get; } = new()
    {
        Quick = true,
        BaseSteps = 200,
        Steps = 80,
        Width = 64,
        Layers = 2,
        Context = 128,
    };
}
