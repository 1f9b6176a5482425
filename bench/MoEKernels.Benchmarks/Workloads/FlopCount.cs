namespace MoEKernels.Benchmarks.Workloads;

/// <summary>
/// Floating-point operations that an op's formula needs, a multiply-add counting as two. It is the same number for
/// every implementation, whatever that one really executes, so that rates compare.
/// </summary>
internal readonly record struct FlopCount(double Forward, double Backward)
{
    public double Of(Pass pass) => pass == Pass.Forward ? Forward : Forward + Backward;
}
