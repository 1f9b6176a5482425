namespace MoEKernels.Benchmarks.Workloads;

/// <summary>Adapted layers.</summary>
public enum LayerKind
{
    /// <summary>SMoRALinear, r 64, k 8.</summary>
    SMoRA,

    /// <summary>CoMoLLinear, r 16, 8 cores, without dropout.</summary>
    CoMoL,
}
