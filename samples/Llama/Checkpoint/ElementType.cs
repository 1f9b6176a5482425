using static TorchSharp.torch;

namespace Llama;

/// <summary>The element types of a model's weights, by their names on the command line.</summary>
internal static class ElementType
{
    private static readonly (string Name, ScalarType Type)[] Names =
    [
        ("f32", ScalarType.Float32), ("bf16", ScalarType.BFloat16), ("f16", ScalarType.Float16),
    ];

    /// <summary>All names, for people.</summary>
    public static string List { get; } = string.Join(", ", Names.Select(entry => entry.Name));

    /// <summary>The name of a type.</summary>
    public static string NameOf(ScalarType type) => Names.First(entry => entry.Type == type).Name;

    /// <summary>The type with a name.</summary>
    /// <param name="name">The name.</param>
    /// <param name="option">The option it was given to.</param>
    /// <exception cref="UserException">There is none.</exception>
    public static ScalarType Parse(string name, string option)
    {
        foreach ((string known, ScalarType type) in Names)
        {
            if (known == name)
                return type;
        }

        throw new UserException($"{option} knows {List}; got '{name}'");
    }
}
