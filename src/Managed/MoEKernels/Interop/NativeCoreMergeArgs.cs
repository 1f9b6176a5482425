namespace MoEKernels.Interop;

/// <summary>Fills the native struct of <see cref="CoreMerge"/>.</summary>
internal static unsafe class NativeCoreMergeArgs
{
    /// <summary>Dimensions, maths and element types; no addresses.</summary>
    internal static Native.CoreMergeArgs Create(
        in CoreMergeShape shape, in CoreMergeOptions options, in DTypeSet types) => new()
        {
            StructSize = (uint)sizeof(Native.CoreMergeArgs),
            Flags = (uint)options.Flags,
            T = shape.T,
            DIn = shape.DIn,
            DOut = shape.DOut,
            R = shape.R,
            E = shape.E,
            XDtype = (int)types.X,
            WeightDtype = (int)types.Weight,
            RouterDtype = (int)types.Router,
            YDtype = (int)types.Y,
            GradDtype = (int)types.Grad,
            BLayout = (int)options.BLayout,
            Router = (int)options.Router,
            Scale = options.Scale,
            Temperature = options.Temperature,
            DropoutP = options.DropoutP,
            DropoutCoreP = options.DropoutCoreP,
            DropoutSeed = options.DropoutSeed,
            DropoutOffset = options.DropoutOffset,
        };

    internal static Native.CoreMergeArgs Create(in CoreMergeArgs args)
    {
        Native.CoreMergeArgs native = Create(args.Shape, args.Options, args.DTypes);
        native.XStride = args.XStride;
        native.RouterInputStride = args.RouterInputStride;
        native.AStride = args.AStride;
        native.BStride = args.BStride;
        native.WgStride = args.WgStride;
        native.YStride = args.YStride;
        native.DyStride = args.DyStride;
        native.DxStride = args.DxStride;
        native.DrouterInputStride = args.DRouterInputStride;
        native.DAStride = args.DAStride;
        native.DBStride = args.DBStride;
        native.DWgStride = args.DWgStride;
        native.X = (void*)args.X;
        native.RouterInput = (void*)args.RouterInput;
        native.A = (void*)args.A;
        native.B = (void*)args.B;
        native.C = (void*)args.C;
        native.Wg = (void*)args.Wg;
        native.Y = (void*)args.Y;
        native.U = (void*)args.U;
        native.P = (void*)args.P;
        native.V = (void*)args.V;
        native.Dy = (void*)args.Dy;
        native.Dx = (void*)args.Dx;
        native.DrouterInput = (void*)args.DRouterInput;
        native.DA = (void*)args.DA;
        native.DB = (void*)args.DB;
        native.DC = (void*)args.DC;
        native.DWg = (void*)args.DWg;
        native.Dp = (void*)args.Dp;
        return native;
    }
}
