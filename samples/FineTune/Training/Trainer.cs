using System.Diagnostics;

using MoEKernels.TorchSharp;

using TorchSharp.Modules;

using static TorchSharp.torch;

namespace FineTune;

/// <summary>How to train one set of parameters.</summary>
/// <param name="Steps">Optimizer steps.</param>
/// <param name="WeightDecay">AdamW's decoupled weight decay.</param>
/// <param name="EvaluateEvery">Steps between two looks at the held-out text.</param>
internal sealed record TrainingPlan(int Steps, double WeightDecay, int EvaluateEvery);

/// <summary>The training loop: AdamW, gradient clipping, a look at the held-out text now and then.</summary>
/// <param name="model">The model.</param>
/// <param name="groups">The parameters to train, with their learning rates after the warm-up; the others stay as they are.</param>
/// <param name="batches">Where batches come from.</param>
/// <param name="evaluation">The held-out text.</param>
internal sealed class Trainer(
    nn.Module<Tensor, Tensor> model,
    IReadOnlyList<AdapterParameterGroup> groups,
    BatchSampler batches,
    Evaluation evaluation)
{
    private const double LargestGradientNorm = 1.0;

    private readonly Parameter[] _parameters = [.. groups.SelectMany(group => group.Parameters)];

    /// <summary>Trains.</summary>
    /// <param name="plan">For how long and how fast.</param>
    /// <param name="stage">Told about every step.</param>
    /// <param name="cancellation">Stops between two steps.</param>
    /// <param name="afterStep">Called after every optimizer step, for state that no gradient updates.</param>
    public TrainingHistory Run(
        TrainingPlan plan, IProgress<StepReport> stage, CancellationToken cancellation, Action? afterStep = null)
    {
        LearningRate[] learningRates = [.. groups.Select(group => new LearningRate(group.LearningRate, plan.Steps))];
        using AdamW optimizer = optim.AdamW(
            groups.Select(group => group.ToAdamW(plan.WeightDecay)), beta1: 0.9, beta2: 0.95);
        List<BatchLoss> losses = [];
        List<HeldOutLoss> heldOut = [new(0, evaluation.BitsPerByte(model, cancellation))];
        List<TimeSpan> times = [];

        model.train();
        for (int step = 1; step <= plan.Steps; step++)
        {
            cancellation.ThrowIfCancellationRequested();
            long start = Stopwatch.GetTimestamp();
            double bitsPerByte = Step(optimizer, [.. learningRates.Select(rate => rate.At(step - 1))]);
            afterStep?.Invoke();
            times.Add(Stopwatch.GetElapsedTime(start));
            losses.Add(new BatchLoss(step, bitsPerByte));
            stage.Report(new StepReport(step, bitsPerByte));
            if (!double.IsFinite(bitsPerByte))
                throw new UserException($"the loss is no number any more after step {step}; try a smaller model or other data");

            if (step % plan.EvaluateEvery == 0 || step == plan.Steps)
                heldOut.Add(new HeldOutLoss(step, evaluation.BitsPerByte(model, cancellation)));
        }

        return new TrainingHistory(losses, heldOut, Durations.Of(times));
    }

    private double Step(AdamW optimizer, double[] learningRates)
    {
        // Everything this step makes is freed here, not when the garbage collector gets to it.
        using var scope = NewDisposeScope();
        foreach ((int index, var group) in optimizer.ParamGroups.Index())
            group.LearningRate = learningRates[index];

        (Tensor inputs, Tensor targets) = batches.Next();
        Tensor loss = Loss.Nats(model.call(inputs), targets);
        optimizer.zero_grad();
        loss.backward();
        nn.utils.clip_grad_norm_(_parameters, LargestGradientNorm);
        optimizer.step();
        return loss.item<float>() / Loss.NatsPerBit;
    }
}
