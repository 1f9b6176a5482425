namespace MoEKernels.TorchSharp;

/// <summary>How SMoRA turns router logits z into the gates of the selected ranks.</summary>
public enum SMoRAGate
{
    /// <summary>
    /// s = sigmoid(z) + load bias; the k largest; g = k s / sum s. The form of the KDD version of arXiv 2501.15103 and of its code.
    /// </summary>
    Sigmoid = 0,

    /// <summary>The k largest z; g = k softmax(z over the selected). No load bias. The form of the first version of the paper.</summary>
    SoftmaxOverSelected = 1,
}
