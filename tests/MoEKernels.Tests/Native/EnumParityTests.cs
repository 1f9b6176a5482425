namespace MoEKernels.Tests;

/// <summary>The public enums are written by hand; these tests keep them in step with the header.</summary>
public sealed class EnumParityTests
{
    [TestCase(typeof(DType), typeof(Native.Dtype))]
    [TestCase(typeof(MoeStatus), typeof(Native.StatusCode))]
    [TestCase(typeof(MoeDeviceType), typeof(Native.DeviceType))]
    [TestCase(typeof(InstructionSet), typeof(Native.Isa))]
    [TestCase(typeof(CallFlags), typeof(Native.CallFlag))]
    [TestCase(typeof(GateScore), typeof(Native.GateScore))]
    [TestCase(typeof(GateSelect), typeof(Native.GateSelect))]
    [TestCase(typeof(BiasMode), typeof(Native.BiasMode))]
    [TestCase(typeof(GateNormalize), typeof(Native.GateNormalize))]
    [TestCase(typeof(BiasTarget), typeof(Native.BiasTarget))]
    [TestCase(typeof(RankGate), typeof(Native.RankGate))]
    [TestCase(typeof(BLayout), typeof(Native.BLayout))]
    [TestCase(typeof(CoreRouter), typeof(Native.CoreRouter))]
    [TestCase(typeof(DropoutStream), typeof(Native.DropoutStream))]
    public void PublicEnum_HasTheNamesAndValuesOfTheHeader(Type ours, Type native) =>
        Assert.That(Items(ours), Is.EquivalentTo(Items(native)));

    [Test]
    public void EveryNativeEnum_IsCovered()
    {
        IEnumerable<string> native = typeof(Native.Dtype).Assembly.GetTypes()
            .Where(type => type.IsEnum && type.Namespace == "MoEKernels.Native").Select(type => type.Name);
        IEnumerable<string> covered = typeof(EnumParityTests).GetMethod(
            nameof(PublicEnum_HasTheNamesAndValuesOfTheHeader))!
            .GetCustomAttributes(typeof(TestCaseAttribute), false).Select(test =>
                ((Type)((TestCaseAttribute)test).Arguments[1]!).Name);

        // No public twins: Microsoft.Extensions.Logging has log levels of its own, and DeviceBuffer a method per direction.
        Assert.That(covered.Append("LogLevel").Append("CopyKind"), Is.EquivalentTo(native));
    }

    [Test]
    public void MaxExperts_IsTheHeaders() => Assert.That(Gate.MaxExperts, Is.EqualTo(Native.Constants.MaxExperts));

    private static IEnumerable<(string Name, long Value)> Items(Type type) => Enum.GetNames(type)
        .Select(name => (name.ToUpperInvariant(), Convert.ToInt64(Enum.Parse(type, name),
            System.Globalization.CultureInfo.InvariantCulture)));
}
