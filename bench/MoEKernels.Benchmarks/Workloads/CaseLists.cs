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
                foreach (Precision precision in new[] { Precision.F32, Precision.BF16, Precision.F16, Precision.F64 })
                {
                    yield return new GateCase(kind, T: 5, E: 7, K: 2, precision);
                    yield return new GateCase(kind, T: 70, E: 64, K: 8, precision);
                }
            }
            foreach (RankLoraKind kind in Enum.GetValues<RankLoraKind>())
            {
                foreach (Precision precision in Enum.GetValues<Precision>())
                {
                    yield return new RankLoraCase(kind, T: 3, DIn: 37, DOut: 21, R: 5, K: 2, precision);
                    yield return new RankLoraCase(kind, T: 70, DIn: 96, DOut: 128, R: 64, K: 8, precision);
                }
            }
            foreach (CoreRouter router in new[] { CoreRouter.Core, CoreRouter.Input })
            {
                foreach (Precision precision in Enum.GetValues<Precision>())
                {
                    yield return new CoreMergeCase(router, T: 3, DIn: 37, DOut: 21, R: 5, E: 3, precision);
                    yield return new CoreMergeCase(router, T: 70, DIn: 96, DOut: 128, R: 16, E: 8, precision);
                }
            }
            foreach (LayerKind kind in Enum.GetValues<LayerKind>())
            {
                foreach (Precision precision in Enum.GetValues<Precision>())
                    yield return new LayerCase(kind, T: 33, D: 72, precision);
            }
        }
    }

    /// <summary>Published configurations, from a decoding step to a long batch, in a couple of minutes.</summary>
    public static IEnumerable<WorkloadCase> Quick
    {
        get
        {
            yield return new GateCase(GateKind.Softmax, T: 16, E: 8, K: 2, Precision.F32);
            yield return new GateCase(GateKind.Softmax, T: 2048, E: 8, K: 2, Precision.F32);
            yield return new GateCase(GateKind.SoftmaxRaw, T: 2048, E: 64, K: 8, Precision.F32);
            yield return new GateCase(GateKind.SigmoidSelectionBias, T: 2048, E: 256, K: 8, Precision.F32);

            (long T, long D, Precision Precision)[] adapters =
            [
                (16, 1024, Precision.F32),
                (512, 1024, Precision.F32),
                (2048, 1024, Precision.F32),
                (16, 4096, Precision.F32),
                (512, 4096, Precision.F32),
                (512, 1024, Precision.BF16),
                (512, 1024, Precision.MixedBF16),
                // Small, since libtorch computes f16 on a CPU at about 1 GFLOP/s.
                (128, 1024, Precision.F16),
            ];
            foreach ((long t, long d, Precision precision) in adapters)
                yield return new RankLoraCase(RankLoraKind.SMoRA, t, d, d, R: 64, K: 8, precision);
            foreach ((long t, long d, Precision precision) in adapters)
                yield return new CoreMergeCase(CoreRouter.Core, t, d, d, R: 16, E: 8, precision);
            foreach (LayerKind kind in Enum.GetValues<LayerKind>())
            {
                yield return new LayerCase(kind, T: 16, D: 1024, Precision.F32);
                yield return new LayerCase(kind, T: 512, D: 1024, Precision.F32);
            }
        }
    }

    /// <summary>Every op over each of its dimensions, the others as published.</summary>
    public static IEnumerable<Sweep> Scaling
    {
        get
        {
            const long Width = 1024;
            RankLoraCase Smora(long t, long r, long k) => new(RankLoraKind.SMoRA, t, Width, Width, r, k, Precision.F32);
            CoreMergeCase Comol(long t, long r, long e) => new(CoreRouter.Core, t, Width, Width, r, e, Precision.F32);
            GateCase Gate(long t, long e, long k) => new(GateKind.SoftmaxRaw, t, e, k, Precision.F32);

            long[] tokens = [1, 4, 16, 64, 256, 1024, 4096];
            yield return Over("rank_lora, d=1024 r=64 k=8", "T", tokens, t => Smora(t, 64, 8));
            yield return Over("rank_lora, d=1024 T=512 k=8", "r", [8, 16, 32, 64, 128, 256], r => Smora(512, r, 8));
            yield return Over("rank_lora, d=1024 T=512 r=64", "k", [1, 2, 4, 8, 16, 32, 64], k => Smora(512, 64, k));
            yield return Over("core_merge, d=1024 r=16 E=8", "T", tokens, t => Comol(t, 16, 8));
            yield return Over("core_merge, d=1024 T=512 E=8", "r", [4, 8, 16, 32, 64, 128], r => Comol(512, r, 8));
            yield return Over("core_merge, d=1024 T=512 r=16", "E", [1, 2, 4, 8, 16, 32, 64], e => Comol(512, 16, e));
            yield return Over("gate, E=64 k=8", "T", tokens, t => Gate(t, 64, 8));
            yield return Over("gate, T=2048 k=8", "E", [8, 16, 32, 64, 128, 256, 512], e => Gate(2048, e, 8));
            yield return Over("gate, T=2048 E=64", "k", [1, 2, 4, 8, 16, 32], k => Gate(2048, 64, k));
        }
    }

    private static Sweep Over(string title, string axis, long[] values, Func<long, WorkloadCase> make) =>
        new(title, axis, [.. values.Select(value => (value, make(value)))]);
}
