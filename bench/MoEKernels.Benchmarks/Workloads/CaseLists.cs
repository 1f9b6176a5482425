namespace MoEKernels.Benchmarks.Workloads;

/// <summary>The cases of the modes that have a fixed list.</summary>
internal static class CaseLists
{
    /// <summary>Small, with odd sizes, every kind and every precision.</summary>
    public static IEnumerable<WorkloadCase> Check
    {
        get
        {
            foreach (GateKind kind in Enum.GetValues<GateKind>())
            {
                foreach (Precision precision in new[] { Precision.F32, Precision.BF16, Precision.F64 })
                {
                    yield return new GateCase(kind, T: 5, E: 7, K: 2, precision);
                    yield return new GateCase(kind, T: 70, E: 64, K: 8, precision);
                }
            }
        }
    }

    /// <summary>Shapes of published models, from a decoding step to a long batch, as far as a couple of minutes go.</summary>
    public static IEnumerable<WorkloadCase> Quick
    {
        get
        {
            yield return new GateCase(GateKind.Softmax, T: 16, E: 8, K: 2, Precision.F32);
            yield return new GateCase(GateKind.Softmax, T: 2048, E: 8, K: 2, Precision.F32);
            yield return new GateCase(GateKind.SoftmaxRaw, T: 2048, E: 64, K: 8, Precision.F32);
            yield return new GateCase(GateKind.SigmoidSelectionBias, T: 2048, E: 256, K: 8, Precision.F32);
        }
    }
}
