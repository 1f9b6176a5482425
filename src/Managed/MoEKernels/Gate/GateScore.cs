namespace MoEKernels;

/// <summary>How router logits z become scores s.</summary>
public enum GateScore
{
    /// <summary>s = softmax(z / temperature) over all experts.</summary>
    Softmax = 0,

    /// <summary>s = 1 / (1 + exp(-z / temperature)).</summary>
    Sigmoid = 1,

    /// <summary>s = z / temperature.</summary>
    Identity = 2,
}
