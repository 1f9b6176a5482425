namespace MoEKernels;

/// <summary>Dimensions of a <see cref="Gate"/> call.</summary>
/// <param name="T">Tokens, at least 0.</param>
/// <param name="E">Experts, 1 to <see cref="Gate.MaxExperts"/>.</param>
/// <param name="K">Active experts per token, 1 to E; with <see cref="GateSelect.All"/> 0 or E.</param>
public readonly record struct GateShape(long T, long E, long K);
