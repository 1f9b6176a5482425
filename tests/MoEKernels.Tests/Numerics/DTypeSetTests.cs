namespace MoEKernels.Tests;

public sealed class DTypeSetTests
{
    [Test]
    public void Default_IsF32() => Assert.That(default(DTypeSet), Is.EqualTo(DTypeSet.F32));

    [Test]
    public void Accumulator_IsF64ForF64Alone() => Assert.Multiple(() =>
    {
        Assert.That(DTypeSet.F64.Accumulator, Is.EqualTo(DType.F64));
        foreach (DTypeSet set in (DTypeSet[])[DTypeSet.F32, DTypeSet.BF16, DTypeSet.F16, DTypeSet.MixedBF16,
            DTypeSet.MixedF16])
        {
            Assert.That(set.Accumulator, Is.EqualTo(DType.F32));
        }
    });

    [Test]
    public void EverySet_IsLegal() => Assert.Multiple(() =>
    {
        foreach (DTypeSet set in (DTypeSet[])[DTypeSet.F32, DTypeSet.BF16, DTypeSet.F16, DTypeSet.F64,
            DTypeSet.MixedBF16, DTypeSet.MixedF16])
        {
            RankLoraArgs args = new()
            {
                Shape = new RankLoraShape(1, 2, 2, 2, 1),
                Options = RankLoraOptions.Smora(1, 1),
                DTypes = set
            };
            Assert.That(() => RankLora.ForwardWorkspace(MoeContext.Default, args), Throws.Nothing, set.ToString());
        }
    });

    [Test]
    public void AnotherMixture_IsRefused()
    {
        RankLoraArgs args = new()
        {
            Shape = new RankLoraShape(1, 2, 2, 2, 1),
            Options = RankLoraOptions.Smora(1, 1),
            DTypes = DTypeSet.F32 with { Weight = DType.BF16 },
        };
        Assert.That(() => RankLora.ForwardWorkspace(MoeContext.Default, args),
            Throws.ArgumentException.With.Message.Contains("weight_dtype"));
    }
}
