using System.Globalization;

namespace MoEKernels.Tests;

public sealed class BFloat16Tests
{
    [TestCase(0f, 0x0000)]
    [TestCase(-0f, 0x8000)]
    [TestCase(1f, 0x3F80)]
    [TestCase(-2.5f, 0xC020)]
    [TestCase(float.PositiveInfinity, 0x7F80)]
    [TestCase(float.MaxValue, 0x7F80, TestName = "rounds up to infinity")]
    [TestCase(1.00390625f, 0x3F80, TestName = "a tie goes to the even neighbour below")]
    [TestCase(1.01171875f, 0x3F82, TestName = "a tie goes to the even neighbour above")]
    [TestCase(1.003907f, 0x3F81, TestName = "above the tie rounds up")]
    [TestCase(1e-40f, 0x0001, TestName = "subnormals are kept")]
    public void FromSingle_RoundsToNearestEven(float value, int bits) =>
        Assert.That(BFloat16.FromSingle(value).Bits, Is.EqualTo((ushort)bits));

    [Test]
    public void EveryPattern_SurvivesTheWayThroughSingle()
    {
        for (int bits = 0; bits <= ushort.MaxValue; bits++)
        {
            BFloat16 value = BFloat16.FromBits((ushort)bits);
            if (float.IsNaN(value))
                Assert.That((float)BFloat16.FromSingle(value), Is.NaN);
            else
                Assert.That(BFloat16.FromSingle(value).Bits, Is.EqualTo(bits));
        }
    }

    [Test]
    public void NaN_StaysOneEvenWhenItsPayloadIsCutOff() =>
        Assert.That((float)BFloat16.FromSingle(BitConverter.UInt32BitsToSingle(0x7F800001)), Is.NaN);

    [Test]
    public void Comparisons_AreThoseOfSingle()
    {
        BFloat16 one = (BFloat16)1f, two = (BFloat16)2f, zero = (BFloat16)0f, minusZero = (BFloat16)(-0f),
            nan = (BFloat16)float.NaN;
        BFloat16 otherNan = BFloat16.FromBits(0xFFC1);
        Assert.Multiple(() =>
        {
            Assert.That(one < two && two > one && one <= two && two >= one && one != two);
            Assert.That(zero == minusZero && zero.Equals(minusZero) && zero.GetHashCode() == minusZero.GetHashCode());
            Assert.That(nan == otherNan, Is.False);
            Assert.That(nan != otherNan && nan.Equals(otherNan) && nan.GetHashCode() == otherNan.GetHashCode());
            Assert.That(nan < one || nan > one || nan <= one || nan >= one, Is.False);
            Assert.That(one.CompareTo(two), Is.Negative);
            Assert.That(nan.CompareTo(one), Is.Negative);
            Assert.That(one.Equals((object)two), Is.False);
        });
    }

    [Test]
    public void Text_IsThatOfSingle() =>
        Assert.That(((BFloat16)2.5f).ToString("F1", CultureInfo.InvariantCulture), Is.EqualTo("2.5"));

    [Test]
    public unsafe void Size_IsTwoBytes() => Assert.That(sizeof(BFloat16), Is.EqualTo(2));
}
