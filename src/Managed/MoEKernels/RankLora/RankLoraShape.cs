namespace MoEKernels;

/// <summary>Dimensions of a <see cref="RankLora"/> call.</summary>
/// <param name="T">Tokens, at least 0.</param>
/// <param name="DIn">Input width, at least 1.</param>
/// <param name="DOut">Output width, at least 1.</param>
/// <param name="R">Ranks, 1 to <see cref="Gate.MaxExperts"/>.</param>
/// <param name="K">Active ranks per token, 1 to R.</param>
public readonly record struct RankLoraShape(long T, long DIn, long DOut, long R, long K);
