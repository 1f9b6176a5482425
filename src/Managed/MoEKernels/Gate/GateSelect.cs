namespace MoEKernels;

/// <summary>Which experts a token keeps.</summary>
public enum GateSelect
{
    /// <summary>The K largest selection scores; equal scores: the lower id first.</summary>
    TopK = 0,

    /// <summary>
    /// All E in their order: a dense ("soft") gate. K is 0 or E, and neither ids nor counts are written.
    /// </summary>
    All = 1,
}
