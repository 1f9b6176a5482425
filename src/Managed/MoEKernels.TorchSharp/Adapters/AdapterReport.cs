namespace MoEKernels.TorchSharp;

/// <summary>How much an adapter trains.</summary>
/// <param name="Layers">Wrapped layers.</param>
/// <param name="AdapterParameters">Numbers in the adapter's trainable parameters.</param>
/// <param name="TotalParameters">Numbers in all parameters of the model, the adapter's included.</param>
public readonly record struct AdapterReport(int Layers, long AdapterParameters, long TotalParameters)
{
    /// <summary>The trainable share of all parameters, 0 to 1.</summary>
    public double TrainableShare => TotalParameters == 0 ? 0 : (double)AdapterParameters / TotalParameters;

    /// <summary>One line for people.</summary>
    public override string ToString() => FormattableString.Invariant(
        $"{AdapterParameters:N0} of {TotalParameters:N0} parameters trainable ({TrainableShare:P2}) in {Layers} layers");
}
