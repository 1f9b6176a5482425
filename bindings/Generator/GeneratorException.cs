namespace MoEKernels.BindingsGenerator;

/// <summary>What the user has to change: an argument, or a construct in the header without a raw binding.</summary>
internal sealed class GeneratorException(string message) : Exception(message);
