using System.Globalization;
using System.Reflection;
using MoEKernels.Interop;

namespace MoEKernels.Tests;

/// <summary>
/// Fills every member of a public descriptor with a value of its own and looks for it under the same name in the native struct.
/// </summary>
public sealed class ArgumentMappingTests
{
    [Test]
    public void GateArgs_ReachTheNativeStruct() => Check<GateArgs>(args => NativeGateArgs.Create(args));

    [Test]
    public void GateBiasUpdateArgs_ReachTheNativeStruct() => Check<GateBiasUpdateArgs>(args => NativeGateArgs.Create(args));

    [Test]
    public void RankLoraArgs_ReachTheNativeStruct() => Check<RankLoraArgs>(args => NativeRankLoraArgs.Create(args));

    [Test]
    public void CoreMergeArgs_ReachTheNativeStruct() => Check<CoreMergeArgs>(args => NativeCoreMergeArgs.Create(args));

    [Test]
    public void DropoutArgs_ReachTheNativeStruct() => Check<DropoutArgs>(args => NativeDropoutArgs.Create(args));

    private static void Check<T>(Func<T, object> convert)
        where T : struct
    {
        Dictionary<string, object> expected = new(StringComparer.OrdinalIgnoreCase);
        int next = 1;
        object native = convert((T)Fill(typeof(T), "", expected, ref next));

        List<string> found = [];
        Assert.Multiple(() =>
        {
            FieldInfo[] fields = native.GetType().GetFields(BindingFlags.Instance | BindingFlags.NonPublic);
            foreach (FieldInfo field in fields)
            {
                if (field.Name.StartsWith("Reserved", StringComparison.Ordinal))
                    continue;
                decimal value = Number(field.GetValue(native)!);
                if (field.Name == "StructSize")
                {
                    Assert.That(value, Is.GreaterThan(0));
                    continue;
                }
                // Flags of the structs without options are zero by contract.
                decimal wanted = expected.TryGetValue(field.Name, out object? given) ? Number(given) : 0;
                Assert.That(value, Is.EqualTo(wanted), field.Name);
                if (given is not null)
                    found.Add(field.Name);
            }
            Assert.That(found, Is.EquivalentTo(expected.Keys).IgnoreCase, "members without a native field");
        });
    }

    private static object Fill(Type type, string suffix, Dictionary<string, object> values, ref int next)
    {
        object result = Activator.CreateInstance(type)!;
        foreach (PropertyInfo property in type.GetProperties(BindingFlags.Instance | BindingFlags.Public).Where(property => property.CanWrite))
        {
            Type kind = property.PropertyType;
            object value;
            if (kind.Namespace == nameof(MoEKernels) && !kind.IsEnum)
            {
                value = Fill(kind, kind == typeof(DTypeSet) ? "Dtype" : "", values, ref next);
            }
            else
            {
                value = kind.IsEnum ? Enum.ToObject(kind, next)
                    : kind == typeof(nint) ? (nint)next
                    : Convert.ChangeType(next, kind, CultureInfo.InvariantCulture);
                values.Add(property.Name + suffix, value);
                next++;
            }
            property.SetValue(result, value);
        }
        return result;
    }

    private static unsafe decimal Number(object value) => value switch
    {
        Pointer pointer => (nint)Pointer.Unbox(pointer),
        nint address => address,
        Enum item => Convert.ToInt64(item, CultureInfo.InvariantCulture),
        _ => Convert.ToDecimal(value, CultureInfo.InvariantCulture),
    };
}
