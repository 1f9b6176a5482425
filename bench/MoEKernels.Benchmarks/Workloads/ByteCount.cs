namespace MoEKernels.Benchmarks.Workloads;

/// <summary>
/// Bytes that have to move however an op is computed: every operand read once and every result written once, in each pass. What forward keeps for
/// backward is not counted, since it could be computed anew.
/// </summary>
internal readonly record struct ByteCount(double Forward, double Backward)
{
    public double Of(Pass pass) => pass == Pass.Forward ? Forward : Forward + Backward;

    /// <summary>An adapter on x [T, d_in] with y [T, d_out] and weights of so many elements: all of them get gradients, and so does x.</summary>
    public static ByteCount OfAdapter(long t, long dIn, long dOut, long weightElements, Precision precision)
    {
        double x = (double)t * dIn * precision.Activation().ElementSize();
        double y = (double)t * dOut * precision.Activation().ElementSize();
        double weights = (double)weightElements * precision.Weight().ElementSize();
        return new(x + weights + y, y + x + weights + x + weights);
    }
}
