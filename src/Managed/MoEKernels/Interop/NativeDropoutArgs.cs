namespace MoEKernels.Interop;

/// <summary>Fills the native struct of <see cref="Dropout"/>.</summary>
internal static unsafe class NativeDropoutArgs
{
    internal static Native.DropoutArgs Create(in DropoutArgs args) => new()
    {
        StructSize = (uint)sizeof(Native.DropoutArgs),
        T = args.T,
        D = args.D,
        MaskStride = args.MaskStride,
        P = args.P,
        Seed = args.Seed,
        Offset = args.Offset,
        Stream = (int)args.Stream,
        MaskDtype = (int)args.MaskDType,
        Mask = (void*)args.Mask,
    };
}
