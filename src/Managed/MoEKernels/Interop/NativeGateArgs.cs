namespace MoEKernels.Interop;

/// <summary>Fills the native structs of <see cref="Gate"/>.</summary>
internal static unsafe class NativeGateArgs
{
    /// <summary>Dimensions and maths; no addresses.</summary>
    internal static Native.GateArgs Create(in GateShape shape, in GateOptions options, DType logits) => new()
    {
        StructSize = (uint)sizeof(Native.GateArgs),
        Flags = (uint)options.Flags,
        T = shape.T,
        E = shape.E,
        K = shape.K,
        LogitsDtype = (int)logits,
        Score = (int)options.Score,
        Select = (int)options.Select,
        BiasMode = (int)options.BiasMode,
        Normalize = (int)options.Normalize,
        Eps = options.Eps,
        Temperature = options.Temperature,
        WeightScale = options.WeightScale,
    };

    internal static Native.GateArgs Create(in GateArgs args)
    {
        Native.GateArgs native = Create(args.Shape, args.Options, args.LogitsDType);
        native.LogitsStride = args.LogitsStride;
        native.DlogitsStride = args.DLogitsStride;
        native.Logits = (void*)args.Logits;
        native.Bias = (void*)args.Bias;
        native.Ids = (void*)args.Ids;
        native.Weights = (void*)args.Weights;
        native.Counts = (void*)args.Counts;
        native.Lse = (void*)args.Lse;
        native.Dweights = (void*)args.DWeights;
        native.Dlse = (void*)args.DLse;
        native.Dlogits = (void*)args.DLogits;
        return native;
    }

    internal static Native.GateBiasUpdateArgs Create(in GateBiasUpdateArgs args) => new()
    {
        StructSize = (uint)sizeof(Native.GateBiasUpdateArgs),
        E = args.E,
        BiasDtype = (int)args.BiasDType,
        TargetMode = (int)args.TargetMode,
        Rate = args.Rate,
        Target = args.Target,
        Counts = (void*)args.Counts,
        Bias = (void*)args.Bias,
    };
}
