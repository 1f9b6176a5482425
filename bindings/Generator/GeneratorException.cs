namespace MoEKernels.BindingsGenerator;

/// <summary>Something the user has to change: an argument, or a construct in the header that has no raw binding.</summary>
internal sealed class GeneratorException(string message) : Exception(message);
