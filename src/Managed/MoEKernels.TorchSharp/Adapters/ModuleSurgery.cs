using System.Collections;
using System.Reflection;
using System.Runtime.CompilerServices;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// Puts one module in the place of another: in the registry that names, <c>state_dict</c> and <c>to()</c> go through, in the containers, and in
/// the fields that a model's own <c>forward</c> reads.
/// </summary>
/// <remarks>
/// TorchSharp has no public way to exchange a registered module in its place (removing and registering again moves it to the end), nor to
/// reach a field of somebody else's class, hence the reflection. <see cref="FindPlaces"/> only looks; nothing is changed before every
/// place is known to accept the new module.
/// </remarks>
internal static class ModuleSurgery
{
    private const BindingFlags DeclaredFields =
        BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly;

    private static readonly FieldInfo Registry =
        typeof(nn.Module).GetField("_internal_submodules", DeclaredFields) ?? throw MissingField(typeof(nn.Module), "_internal_submodules");

    /// <summary>Every place in the tree under <paramref name="root"/> that refers to <paramref name="target"/>.</summary>
    /// <param name="root">The model.</param>
    /// <param name="target">The module to be replaced.</param>
    /// <param name="replacementType">Type of the module that will come in its place.</param>
    /// <param name="path">Name of the target for error messages.</param>
    /// <exception cref="InvalidOperationException">A field or list refers to the target but cannot hold the replacement.</exception>
    public static List<Action<nn.Module>> FindPlaces(nn.Module root, nn.Module target, Type replacementType, string path)
    {
        var places = new List<Action<nn.Module>>();
        foreach (nn.Module owner in root.modules().Prepend(root).Distinct(ReferenceEqualityComparer.Instance).Cast<nn.Module>())
        {
            if (ReferenceEquals(owner, target))
                continue;
            FindInRegistry(owner, target, places);
            FindInFields(owner, target, replacementType, path, places);
        }
        return places;
    }

    private static void FindInRegistry(nn.Module owner, nn.Module target, List<Action<nn.Module>> places)
    {
        var registry = (OrderedDict<string, nn.Module>)Registry.GetValue(owner)!;
        foreach ((string name, nn.Module module) in registry)
        {
            if (ReferenceEquals(module, target))
                places.Add(replacement => registry[name] = replacement);
        }
    }

    private static void FindInFields(nn.Module owner, nn.Module target, Type replacementType, string path, List<Action<nn.Module>> places)
    {
        for (Type? type = owner.GetType(); type is not null && type != typeof(nn.Module); type = type.BaseType)
        {
            foreach (FieldInfo field in type.GetFields(DeclaredFields))
            {
                object? value = field.FieldType.IsValueType ? null : field.GetValue(owner);
                if (ReferenceEquals(value, target))
                {
                    if (!field.FieldType.IsAssignableFrom(replacementType))
                        throw CannotHold($"the field {type.Name}.{field.Name} is a {field.FieldType.Name}", path, replacementType);
                    places.Add(replacement => field.SetValue(owner, replacement));
                }
                else if (value is IList list && value is not nn.Module && CanHoldModules(list.GetType()))
                {
                    FindInList(list, target, replacementType, path, $"{type.Name}.{field.Name}", places);
                }
                else if (value is IDictionary dictionary)
                {
                    FindInDictionary(dictionary, target, replacementType, path, $"{type.Name}.{field.Name}", places);
                }
            }
        }
    }

    private static void FindInList(IList list, nn.Module target, Type replacementType, string path, string field, List<Action<nn.Module>> places)
    {
        for (int i = 0; i < list.Count; i++)
        {
            int index = i;
            object? item = list[i];
            if (ReferenceEquals(item, target))
            {
                ThrowIfElementCannotHold(list.GetType(), replacementType, path, field);
                places.Add(replacement => list[index] = replacement);
            }
            else if (item is ITuple { Length: 2 } named && ReferenceEquals(named[1], target))
            {
                ThrowIfElementCannotHold(item.GetType(), replacementType, path, field);
                places.Add(replacement => list[index] = Activator.CreateInstance(item.GetType(), named[0], replacement));
            }
        }
    }

    private static void FindInDictionary(IDictionary dictionary, nn.Module target, Type replacementType, string path, string field, List<Action<nn.Module>> places)
    {
        foreach (DictionaryEntry entry in dictionary)
        {
            if (!ReferenceEquals(entry.Value, target))
                continue;
            object key = entry.Key;
            ThrowIfElementCannotHold(dictionary.GetType(), replacementType, path, field);
            places.Add(replacement => dictionary[key] = replacement);
        }
    }

    /// <summary>Spares the walk through long lists of numbers.</summary>
    private static bool CanHoldModules(Type collection) => ElementType(collection) is not { } element || !(element.IsPrimitive || element == typeof(string));

    private static Type? ElementType(Type collection) =>
        collection.IsArray ? collection.GetElementType() : collection.IsGenericType ? collection.GetGenericArguments()[^1] : null;

    private static void ThrowIfElementCannotHold(Type collection, Type replacementType, string path, string field)
    {
        Type? element = ElementType(collection);
        if (element is not null && !element.IsAssignableFrom(replacementType))
            throw CannotHold($"{field} holds elements of {element.Name}", path, replacementType);
    }

    private static InvalidOperationException CannotHold(string place, string path, Type replacementType) =>
        new($"'{path}' cannot be replaced by a {replacementType.Name}: {place}. Linear is sealed, so declare it as "
            + "torch.nn.Module<Tensor, Tensor>, or leave the layer out with ExcludeModules.");

    private static MissingFieldException MissingField(Type type, string name) =>
        new($"TorchSharp's {type.Name} has no field {name}. This library is written for TorchSharp 0.107.0.");
}
