using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// The fused ops as differentiable functions on tensors. They take any leading dimensions and any strides (what is not contiguous is copied),
/// and use raw kernels without a graph where nothing requires a gradient.
/// </summary>
/// <remarks>
/// <para>
/// Arguments are checked before anything runs. An exception in backward would end the process, so a failure there (a saved tensor was changed
/// in place, memory ran out, <c>create_graph</c> was asked for) leaves gradients undefined, and the next call of this class, of a module or of
/// <see cref="ThrowPendingBackwardError"/> throws it as a <see cref="MoeBackwardException"/>, on whichever thread that is.
/// </para>
/// <para>
/// The device of the tensors decides where a call runs: on the CPU, or on a CUDA device through the native library's CUDA half, on the stream that
/// libtorch uses (the device's default stream). All tensors of a call must be on one device. On CUDA the call returns once the work is queued, and
/// f64 and <see cref="CallFlags.Strict"/> are not offered.
/// </para>
/// <para>
/// The functions are differentiable once. Results belong to the current DisposeScope, and so does nothing else.
/// </para>
/// </remarks>
public static partial class MoeFunctional
{
    /// <summary>
    /// The context of calls on CPU tensors. Null, the default: one that the library makes, with as many threads as
    /// <c>torch.get_num_threads()</c> says at the call.
    /// </summary>
    /// <exception cref="ArgumentException">The context is not one of the CPU.</exception>
    public static MoeContext? CpuContext
    {
        get => MoeContexts.CpuOverride;
        set
        {
            if (value is not null && value.Device != MoeDeviceType.Cpu)
                throw new ArgumentException($"The context runs on {value.Device}; expected {MoeDeviceType.Cpu}.", nameof(value));
            MoeContexts.CpuOverride = value;
        }
    }

    /// <summary>Throws the failure of an earlier backward pass, if there was one, and forgets it. Call it after <c>backward()</c> to learn of failures at once.</summary>
    /// <exception cref="MoeBackwardException">An earlier backward failed.</exception>
    public static void ThrowPendingBackwardError() => BackwardGuard.ThrowIfPending();

    /// <summary>
    /// The mask that the ops' dropout applies: 0 with probability p, else 1 / (1 - p). For oracles and for layers built from single ops.
    /// </summary>
    /// <param name="rows">Rows T, at least 0.</param>
    /// <param name="columns">Columns d, at least 1.</param>
    /// <param name="p">Probability, 0 &lt;= p &lt; 1.</param>
    /// <param name="seed">Seed of the generator.</param>
    /// <param name="offset">Offset in the generator.</param>
    /// <param name="stream">Which of the streams of (seed, offset).</param>
    /// <param name="dtype">Element type of the mask; null: f32.</param>
    /// <param name="device">Where the mask shall be; null: the CPU. The numbers are the same everywhere.</param>
    /// <returns>[T, d].</returns>
    public static Tensor DropoutMask(
        long rows,
        long columns,
        double p,
        ulong seed,
        ulong offset = 0,
        DropoutStream stream = DropoutStream.Input,
        ScalarType? dtype = null,
        Device? device = null)
    {
        BackwardGuard.ThrowIfPending();
        ArgumentOutOfRangeException.ThrowIfNegative(rows);
        ArgumentOutOfRangeException.ThrowIfLessThan(columns, 1);
        OptionChecks.Probability(p, nameof(p));
        Tensor mask = empty(rows, columns, dtype: dtype ?? ScalarType.Float32, device: device);
        Dropout.Mask(MoeContexts.For(mask), new DropoutArgs
        {
            T = rows,
            D = columns,
            P = p,
            Seed = seed,
            Offset = offset,
            Stream = stream,
            MaskDType = OpTensors.TypeOf(mask),
            Mask = OpTensors.Address(mask),
        }, MoeContexts.Stream);
        GC.KeepAlive(mask);
        return mask;
    }

    /// <summary>A seed for an op's dropout from the generator that <c>torch.manual_seed</c> controls.</summary>
    public static ulong DrawDropoutSeed()
    {
        using Tensor drawn = randint(0, long.MaxValue, [1], dtype: ScalarType.Int64);
        return (ulong)drawn.item<long>();
    }

    private static bool AnyRequiresGrad(params ReadOnlySpan<Tensor?> tensors)
    {
        if (!is_grad_enabled())
            return false;
        foreach (Tensor? tensor in tensors)
        {
            if (tensor is not null && tensor.requires_grad)
                return true;
        }
        return false;
    }
}
