namespace MoEKernels.BindingsGenerator.Model;

/// <summary>What the header declares, in its order, with the C# names already given.</summary>
/// <param name="Sha256">Hash of the header's bytes, lower-case hexadecimal.</param>
/// <param name="Constants">Integer macros.</param>
/// <param name="Enums">Enumerations.</param>
/// <param name="Handles">Opaque structs, only ever used through pointers.</param>
/// <param name="Structs">Structs with fields.</param>
/// <param name="Functions">Exported functions.</param>
/// <param name="Symbols">What references in comments can point to.</param>
internal sealed record HeaderModel(
    string Sha256,
    IReadOnlyList<ConstantModel> Constants,
    IReadOnlyList<EnumModel> Enums,
    IReadOnlyList<HandleModel> Handles,
    IReadOnlyList<StructModel> Structs,
    IReadOnlyList<FunctionModel> Functions,
    SymbolTable Symbols);

/// <summary>An integer macro.</summary>
internal sealed record ConstantModel(string NativeName, string Name, string Type, long Value, DocComment? Doc);

/// <summary>An enumeration; <paramref name="IsFlags"/> when its items are bits to combine.</summary>
internal sealed record EnumModel(
    string NativeName, string Name, bool IsFlags, IReadOnlyList<EnumItemModel> Items, DocComment? Doc);

/// <summary>One value of an enumeration.</summary>
internal sealed record EnumItemModel(string NativeName, string Name, int Value, DocComment? Doc);

/// <summary>An opaque struct.</summary>
internal sealed record HandleModel(string NativeName, string Name, DocComment? Doc);

/// <summary>A struct of <paramref name="Size"/> bytes.</summary>
internal sealed record StructModel(
    string NativeName, string Name, int Size, IReadOnlyList<FieldModel> Fields, DocComment? Doc);

/// <summary>A field. For a fixed array <paramref name="Type"/> is the element's.</summary>
internal sealed record FieldModel(
    string NativeName, string Name, ManagedType Type, int? ArrayLength, int Offset, DocComment? Doc)
{
    /// <summary>Bytes of the field.</summary>
    internal int Size => Type.Size * (ArrayLength ?? 1);

    /// <summary>Name of the inline array type that holds a fixed array, nested in the struct.</summary>
    internal string ArrayTypeName => Name + "Array";
}

/// <summary>An exported function.</summary>
internal sealed record FunctionModel(
    string NativeName, string Name, ManagedType ReturnType, IReadOnlyList<ParameterModel> Parameters, DocComment? Doc);

/// <summary>A parameter.</summary>
internal sealed record ParameterModel(string NativeName, string Name, ManagedType Type);

/// <summary>A C# type and its size on the target in bytes (0 for void).</summary>
internal readonly record struct ManagedType(string Name, int Size)
{
    /// <summary>Whether it is a pointer to data or to a function.</summary>
    internal bool IsPointer => Name.EndsWith('*') || Name.StartsWith("delegate*", StringComparison.Ordinal);
}
