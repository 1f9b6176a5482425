namespace MoEKernels.Interop;

/// <summary>Fills the native struct of <see cref="RankLora"/>.</summary>
internal static unsafe class NativeRankLoraArgs
{
    /// <summary>Dimensions, maths and element types; no addresses.</summary>
    internal static Native.RankLoraArgs Create(
        in RankLoraShape shape, in RankLoraOptions options, in DTypeSet types) => new()
        {
            StructSize = (uint)sizeof(Native.RankLoraArgs),
            Flags = (uint)options.Flags,
            T = shape.T,
            DIn = shape.DIn,
            DOut = shape.DOut,
            R = shape.R,
            K = shape.K,
            RankPartition = options.RankPartition,
            XDtype = (int)types.X,
            WeightDtype = (int)types.Weight,
            RouterDtype = (int)types.Router,
            YDtype = (int)types.Y,
            GradDtype = (int)types.Grad,
            BLayout = (int)options.BLayout,
            Gate = (int)options.Gate,
            Score = (int)options.Score,
            BiasMode = (int)options.BiasMode,
            Normalize = (int)options.Normalize,
            Scale = options.Scale,
            Eps = options.Eps,
            Temperature = options.Temperature,
            Threshold = options.Threshold,
            DropoutP = options.DropoutP,
            DropoutSeed = options.DropoutSeed,
            DropoutOffset = options.DropoutOffset,
        };

    internal static Native.RankLoraArgs Create(in RankLoraArgs args)
    {
        Native.RankLoraArgs native = Create(args.Shape, args.Options, args.DTypes);
        native.XStride = args.XStride;
        native.RouterInputStride = args.RouterInputStride;
        native.AStride = args.AStride;
        native.BStride = args.BStride;
        native.WrStride = args.WrStride;
        native.YStride = args.YStride;
        native.DyStride = args.DyStride;
        native.DxStride = args.DxStride;
        native.DrouterInputStride = args.DRouterInputStride;
        native.DAStride = args.DAStride;
        native.DBStride = args.DBStride;
        native.DWrStride = args.DWrStride;
        native.X = (void*)args.X;
        native.RouterInput = (void*)args.RouterInput;
        native.A = (void*)args.A;
        native.B = (void*)args.B;
        native.Wr = (void*)args.Wr;
        native.Bias = (void*)args.Bias;
        native.Y = (void*)args.Y;
        native.Ids = (void*)args.Ids;
        native.Gates = (void*)args.Gates;
        native.U = (void*)args.U;
        native.GateLogits = (void*)args.GateLogits;
        native.Counts = (void*)args.Counts;
        native.Dy = (void*)args.Dy;
        native.Dx = (void*)args.Dx;
        native.DrouterInput = (void*)args.DRouterInput;
        native.DA = (void*)args.DA;
        native.DB = (void*)args.DB;
        native.DWr = (void*)args.DWr;
        native.Dgates = (void*)args.DGates;
        return native;
    }
}
