namespace MoEKernels.TorchSharp;

/// <summary>A module that distributes tokens over experts, ranks or cores and can tell how.</summary>
public interface IRoutedModule
{
    /// <summary>Experts, ranks or cores to choose from.</summary>
    long RouteCount { get; }

    /// <summary>
    /// Whether forward passes are counted into <see cref="GetRoutingTotals"/>, in training and in evaluation. Default: false, since on a GPU it costs
    /// a synchronisation.
    /// </summary>
    bool TrackRouting { get; set; }

    /// <summary>
    /// What each route got since the last <see cref="ResetRoutingTotals"/>: how often it was chosen, or, where all of them mix, the sum of its
    /// mixing weights over the tokens.
    /// </summary>
    /// <returns>One number per route.</returns>
    double[] GetRoutingTotals();

    /// <summary>Starts counting anew.</summary>
    void ResetRoutingTotals();
}
