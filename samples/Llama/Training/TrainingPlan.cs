namespace Llama;

/// <summary>How an adapter is trained.</summary>
/// <param name="Steps">Optimizer steps.</param>
/// <param name="Batch">Blocks in a step.</param>
/// <param name="LearningRate">The learning rate after the warm-up.</param>
/// <param name="Seed">The seed of the blocks' draws.</param>
internal sealed record TrainingPlan(int Steps, int Batch, double LearningRate, int Seed);
