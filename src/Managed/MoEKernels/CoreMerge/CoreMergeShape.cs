namespace MoEKernels;

/// <summary>Dimensions of a <see cref="CoreMerge"/> call.</summary>
/// <param name="T">Tokens, at least 0.</param>
/// <param name="DIn">Input width, at least 1.</param>
/// <param name="DOut">Output width, at least 1.</param>
/// <param name="R">Rank, at least 1.</param>
/// <param name="E">Cores, 1 to <see cref="Gate.MaxExperts"/>.</param>
public readonly record struct CoreMergeShape(long T, long DIn, long DOut, long R, long E);
