using CppSharp.Parser;

namespace MoEKernels.BindingsGenerator.Reading;

/// <summary>Sizes of the types whose size C leaves to the target, in bytes.</summary>
internal readonly record struct TargetSizes(int Short, int Int, int LongLong, int Float, int Double, int Pointer)
{
    internal static TargetSizes From(ParserTargetInfo target) => new(
        Bytes(target.ShortWidth),
        Bytes(target.IntWidth),
        Bytes(target.LongLongWidth),
        Bytes(target.FloatWidth),
        Bytes(target.DoubleWidth),
        Bytes(target.PointerWidth));

    private static int Bytes(uint bits) => (int)(bits / 8);
}
