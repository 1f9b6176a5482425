namespace FineTune;

/// <summary>What the run has found out about one adapter.</summary>
/// <param name="Plan">The adapter.</param>
/// <param name="Parameters">Trainable parameters.</param>
/// <param name="Layers">Adapted layers.</param>
/// <param name="History">Losses, the first held-out one being the frozen base's.</param>
/// <param name="Timing">The kernels against plain TorchSharp.</param>
/// <param name="Routing">The routers of the adapted layers; empty for a method that has none.</param>
/// <param name="File">The saved adapter.</param>
/// <param name="Reload">How the model with the reloaded adapter compares.</param>
internal sealed record AdapterResult(
    AdapterPlan Plan,
    long Parameters,
    int Layers,
    TrainingHistory History,
    AdapterTiming Timing,
    IReadOnlyList<RoutingTable> Routing,
    string File,
    Reload Reload)
{
    /// <summary>Whether the saved adapter is the adapter.</summary>
    public bool ReloadIsFaithful => Reload.IsFaithful(Plan.Kind);

    /// <summary>Held-out bits per byte before training, by domain.</summary>
    public IReadOnlyDictionary<string, double> Before => History.HeldOut[0].BitsPerByte;

    /// <summary>Held-out bits per byte after training, by domain.</summary>
    public IReadOnlyDictionary<string, double> After => History.HeldOut[^1].BitsPerByte;
}
