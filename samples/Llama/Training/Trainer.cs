using MoEKernels.TorchSharp;

using TorchSharp.Modules;

using static TorchSharp.torch;

namespace Llama;

/// <summary>Trains a model's adapter: AdamW, gradient clipping, the auxiliary losses and the load biases of routers.</summary>
/// <param name="model">The model with the adapter.</param>
/// <param name="adapter">The adapter.</param>
/// <param name="blocks">The text.</param>
internal sealed class Trainer(CausalModel model, AdapterHandle adapter, TokenBlocks blocks)
{
    private const double LargestGradientNorm = 1.0;

    /// <summary>Trains.</summary>
    /// <param name="plan">For how long and how fast.</param>
    /// <param name="stage">Told about every step; null: nobody is.</param>
    /// <param name="cancellation">Stops between two steps.</param>
    /// <returns>The loss of every step in nats for each token.</returns>
    /// <exception cref="UserException">The loss is no number any more.</exception>
    public IReadOnlyList<double> Run(TrainingPlan plan, IProgress<StepReport>? stage = null, CancellationToken cancellation = default)
    {
        // LoRA+ has two groups, whose learning rates stay in their proportion.
        IReadOnlyList<AdapterParameterGroup> groups = adapter.ParameterGroups(plan.LearningRate);
        LearningRate[] rates = [.. groups.Select(group => new LearningRate(group.LearningRate, plan.Steps))];
        Parameter[] parameters = [.. groups.SelectMany(group => group.Parameters)];
        using AdamW optimizer = optim.AdamW(groups.Select(group => group.ToAdamW()), beta1: 0.9, beta2: 0.95);
        Random random = new(plan.Seed);
        List<double> losses = [];
        model.train();
        for (int step = 0; step < plan.Steps; step++)
        {
            cancellation.ThrowIfCancellationRequested();

            // Everything this step makes is freed here, not when the garbage collector gets to it.
            using var scope = NewDisposeScope();
            foreach ((int index, var group) in optimizer.ParamGroups.Index())
                group.LearningRate = rates[index].At(step);

            int[] starts = [.. Enumerable.Range(0, plan.Batch).Select(_ => blocks.Training[random.Next(blocks.Training.Count)])];
            (Tensor inputs, Tensor targets) = blocks.Batch(starts);
            Tensor loss = Perplexity.Loss(model.call(inputs), targets);
            optimizer.zero_grad();
            (loss + model.AuxiliaryLoss()).backward();
            nn.utils.clip_grad_norm_(parameters, LargestGradientNorm);
            optimizer.step();
            model.UpdateRouterBiases();

            double nats = loss.item<float>();
            if (!double.IsFinite(nats))
                throw new UserException($"the loss is no number any more after step {step + 1}; try a smaller --learning-rate, or --dtype f32");
            losses.Add(nats);
            stage?.Report(new StepReport(step + 1, nats));
        }

        model.eval();
        return losses;
    }
}
