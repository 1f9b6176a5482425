using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>Lets a second pass draw the random numbers of the first.</summary>
/// <param name="State">State of the CPU's generator at the start of the first pass.</param>
/// <param name="CudaSeed">What the GPUs' generators were seeded with there; null: no input is on one.</param>
internal sealed record RecomputeRandom(byte[] State, long? CudaSeed)
{
    /// <summary>Remembers where the generators stand, before the first pass.</summary>
    public static RecomputeRandom Begin(IReadOnlyList<Tensor> inputs)
    {
        long? seed = null;
        if (inputs.Any(input => input.device_type == global::TorchSharp.DeviceType.CUDA))
        {
            seed = (long)(MoeFunctional.DrawDropoutSeed() & long.MaxValue);
            cuda.manual_seed_all(seed.Value);
        }
        using Tensor state = random.get_rng_state();
        return new RecomputeRandom(state.data<byte>().ToArray(), seed);
    }

    /// <summary>Goes back there for a second pass; the result goes on where the generators stood before.</summary>
    public IDisposable Return()
    {
        Tensor before = random.get_rng_state().DetachFromDisposeScope();
        using (Tensor state = tensor(State))
            random.set_rng_state(state);
        if (CudaSeed is { } seed)
            cuda.manual_seed_all(seed);
        return new Resume(before, CudaSeed);
    }

    private sealed class Resume(Tensor before, long? cudaSeed) : IDisposable
    {
        public void Dispose()
        {
            using (before)
                random.set_rng_state(before);
            // Neither the numbers of the second pass again nor those that followed the first.
            if (cudaSeed is { } seed)
                cuda.manual_seed_all(unchecked((seed * 6364136223846793005) + 1442695040888963407) & long.MaxValue);
        }
    }
}
