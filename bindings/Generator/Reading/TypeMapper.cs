using CppSharp.AST;
using CppSharp.AST.Extensions;
using MoEKernels.BindingsGenerator.Model;
using CType = CppSharp.AST.Type;

namespace MoEKernels.BindingsGenerator.Reading;

/// <summary>Maps C types to blittable C# types.</summary>
/// <param name="sizes">The target's type sizes.</param>
/// <param name="structs">The header's complete structs by name; a struct used by value must be one of them.</param>
internal sealed class TypeMapper(TargetSizes sizes, IReadOnlyDictionary<string, Class> structs)
{
    // By name, because stdint.h maps them to whatever built-in type has the size on the target.
    private readonly Dictionary<string, ManagedType> _standardTypes = new(StringComparer.Ordinal)
    {
        ["int8_t"] = new("sbyte", 1),
        ["uint8_t"] = new("byte", 1),
        ["int16_t"] = new("short", 2),
        ["uint16_t"] = new("ushort", 2),
        ["int32_t"] = new("int", 4),
        ["uint32_t"] = new("uint", 4),
        ["int64_t"] = new("long", 8),
        ["uint64_t"] = new("ulong", 8),
        ["intptr_t"] = new("nint", sizes.Pointer),
        ["ptrdiff_t"] = new("nint", sizes.Pointer),
        ["uintptr_t"] = new("nuint", sizes.Pointer),
        ["size_t"] = new("nuint", sizes.Pointer),
    };

    /// <summary>Maps a type; <paramref name="owner"/> is the declaration that uses it, for error messages.</summary>
    internal ManagedType Map(CType type, string owner) => type switch
    {
        TypedefType { Declaration: var typedef } => _standardTypes.TryGetValue(typedef.Name, out ManagedType standard)
            ? standard
            : Map(typedef.Type, owner),
        AttributedType attributed => Map(attributed.Modified.Type, owner),
        DecayedType decayed => Map(decayed.Decayed.Type, owner),
        // Only a parameter's array comes here, and that is a pointer in C; a field's is mapped by its element.
        ArrayType array => MapPointer(array.Type, owner),
        PointerType { Pointee: var pointee } => MapPointer(pointee, owner),
        TagType { Declaration: Enumeration @enum } => new(Naming.OfDeclaration(@enum.Name), sizes.Int),
        TagType { Declaration: Class @class } => MapStruct(@class, owner),
        BuiltinType builtin => MapBuiltin(builtin.Type, owner),
        _ => throw Unsupported(type.GetType().Name, owner),
    };

    private ManagedType MapPointer(CType pointee, string owner)
    {
        if (pointee.Desugar() is FunctionType function)
            return new(FunctionPointer(function, owner), sizes.Pointer);
        if (pointee.Desugar() is TagType { Declaration: Class { IsUnion: false } @class })
            return new(Naming.OfDeclaration(@class.Name) + "*", sizes.Pointer);
        return new(Map(pointee, owner).Name + "*", sizes.Pointer);
    }

    private ManagedType MapStruct(Class @class, string owner)
    {
        if (@class.IsUnion)
            throw Unsupported("a union", owner);
        if (!structs.TryGetValue(@class.Name ?? "", out Class? complete))
            throw Unsupported("a struct type that is anonymous, nested or incomplete", owner);
        return new(Naming.OfDeclaration(complete.Name), complete.Layout.Size);
    }

    private ManagedType MapBuiltin(PrimitiveType type, string owner) => type switch
    {
        PrimitiveType.Void => new("void", 0),
        // Text is UTF-8, so bytes.
        PrimitiveType.Char or PrimitiveType.UChar => new("byte", 1),
        PrimitiveType.SChar => new("sbyte", 1),
        PrimitiveType.Short => new("short", sizes.Short),
        PrimitiveType.UShort => new("ushort", sizes.Short),
        PrimitiveType.Int => new("int", sizes.Int),
        PrimitiveType.UInt => new("uint", sizes.Int),
        PrimitiveType.LongLong => new("long", sizes.LongLong),
        PrimitiveType.ULongLong => new("ulong", sizes.LongLong),
        PrimitiveType.Float => new("float", sizes.Float),
        PrimitiveType.Double => new("double", sizes.Double),
        PrimitiveType.Long or PrimitiveType.ULong => throw Unsupported("long, whose size differs by platform,", owner),
        PrimitiveType.Bool => throw Unsupported("bool, which is not blittable,", owner),
        _ => throw Unsupported(type.ToString(), owner),
    };

    private string FunctionPointer(FunctionType function, string owner)
    {
        IEnumerable<CType> types = function.Parameters.Select(p => p.Type).Append(function.ReturnType.Type);
        return $"delegate* unmanaged[Cdecl]<{string.Join(", ", types.Select(t => Map(t, owner).Name))}>";
    }

    private static GeneratorException Unsupported(string what, string owner) =>
        new($"{owner}: {what} has no raw binding; use a fixed-width type, a pointer or a struct declared on its own.");
}
