namespace MoEKernels.Tests;

[TestFixture(MoeDeviceType.Cpu)]
[TestFixture(MoeDeviceType.Cuda, Category = TestDevice.Gpu)]
public sealed class DeviceBufferTests(MoeDeviceType type)
{
    private MoeContext _context = null!;

    [OneTimeSetUp]
    public void Open() => _context = TestDevice.Open(type);

    [OneTimeTearDown]
    public void Close() => _context?.Dispose();

    [Test]
    public void Content_ComesBack()
    {
        float[] values = TestData.To<float>(TestData.Uniform(1, 1000));
        using DeviceBuffer<float> buffer = new(_context, values);

        Assert.Multiple(() =>
        {
            Assert.That(buffer.Length, Is.EqualTo(1000));
            Assert.That(buffer.ByteLength, Is.EqualTo(4000));
            Assert.That((long)buffer.Address % 64, Is.Zero);
            Assert.That(buffer.Context, Is.SameAs(_context));
            Assert.That(buffer.ToArray(), Is.EqualTo(values));
        });
    }

    [Test]
    public void Content_OfEveryElementSize_ComesBack() => Assert.Multiple(() =>
    {
        Check<byte>(1, 2, 3);
        Check(BFloat16.FromSingle(1.5f), BFloat16.FromSingle(-2));
        Check((Half)0.5, (Half)7);
        Check(int.MaxValue, -1, 0);
        Check(double.Epsilon, double.MaxValue);

        void Check<T>(params T[] values)
            where T : unmanaged
        {
            using DeviceBuffer<T> buffer = new(_context, values);
            Assert.That(buffer.ToArray(), Is.EqualTo(values), typeof(T).Name);
        }
    });

    [Test]
    public void Copy_AtAnOffset_LeavesTheRestAlone()
    {
        using DeviceBuffer<int> buffer = new(_context, [0, 1, 2, 3, 4]);
        int[] part = new int[2];

        buffer.CopyFrom([8, 9], start: 3);
        buffer.CopyTo(part, start: 2);

        Assert.That(part, Is.EqualTo(new[] { 2, 8 }));
        Assert.That(buffer.ToArray(), Is.EqualTo(new[] { 0, 1, 2, 8, 9 }));
    }

    [Test]
    public void CopyToDevice_PutsAllElementsThere()
    {
        using DeviceBuffer<int> source = new(_context, [1, 2]);
        using DeviceBuffer<int> destination = new(_context, [7, 7, 7, 7]);

        source.CopyToDevice(destination, start: 1);

        Assert.That(destination.ToArray(), Is.EqualTo(new[] { 7, 1, 2, 7 }));
    }

    [Test]
    public void Clear_SetsEveryElementToZero()
    {
        using DeviceBuffer<double> buffer = new(_context, TestData.Uniform(2, 99));

        buffer.Clear();

        Assert.That(buffer.ToArray(), Is.EqualTo(new double[99]));
    }

    [Test]
    public void Stream_OrdersCopiesAfterWhatWasQueued()
    {
        using CudaStream stream = new(_context);
        using DeviceBuffer<int> first = new(_context, [1, 2, 3]);
        using DeviceBuffer<int> second = new(_context, [0, 0, 0]);

        first.CopyToDevice(second, stream: stream);
        first.Clear(stream);

        Assert.That(first.ToArray(stream), Is.All.Zero);
        Assert.That(second.ToArray(stream), Is.EqualTo(new[] { 1, 2, 3 }));
    }

    [Test]
    public void NoElements_NeedNoMemory()
    {
        using DeviceBuffer<float> buffer = new(_context, 0);
        buffer.CopyFrom([]);
        buffer.CopyTo([]);
        buffer.CopyToDevice(buffer);
        buffer.Clear();

        Assert.That((long)buffer.Address, Is.Zero);
        Assert.That(buffer.ToArray(), Is.Empty);
    }

    [Test]
    public void WrongArguments_AreNamed()
    {
        using DeviceBuffer<int> buffer = new(_context, [1, 2, 3]);
        using DeviceBuffer<int> two = new(_context, 2);

        Assert.Multiple(() =>
        {
            Assert.That(() => new DeviceBuffer<int>(null!, 1), Throws.ArgumentNullException);
            Assert.That(() => new DeviceBuffer<int>(_context, -1), Wrong("length", "got -1"));
            Assert.That(() => new DeviceBuffer<int>(_context, long.MaxValue / 2), Wrong("length", "got 4611"));
            Assert.That(() => buffer.CopyFrom([1], start: 3), Wrong("source", "got 1 elements"));
            Assert.That(() => buffer.CopyFrom([1], start: -1), Wrong("start", "got -1"));
            Assert.That(() => buffer.CopyFrom([], start: 4), Wrong("start", "got 4"));
            Assert.That(() => buffer.CopyFrom([1, 2, 3, 4]), Wrong("source", "expected at most 3"));
            Assert.That(() => buffer.CopyTo(new int[2], start: 2), Wrong("destination", "got 2 elements"));
            Assert.That(() => buffer.CopyToDevice(null!), Throws.ArgumentNullException);
            Assert.That(() => buffer.CopyToDevice(two), Wrong("destination", "got 3 elements"));
            Assert.That(() => buffer.CopyToDevice(buffer), Throws.ArgumentException.With.Message.Contains("overlaps"));
            Assert.That(buffer.ToArray(), Is.EqualTo(new[] { 1, 2, 3 }));
        });

        static NUnit.Framework.Constraints.IResolveConstraint Wrong(string name, string text) =>
            Throws.InstanceOf<ArgumentException>().With.Property(nameof(ArgumentException.ParamName)).EqualTo(name)
                .And.Message.Contains(text);
    }

    [Test]
    public void Disposed_Throws()
    {
        DeviceBuffer<int> buffer = new(_context, [1]);
        buffer.Dispose();
        buffer.Dispose();

        Assert.Multiple(() =>
        {
            Assert.That(() => buffer.Address, Throws.InstanceOf<ObjectDisposedException>());
            Assert.That(() => buffer.CopyFrom([1]), Throws.InstanceOf<ObjectDisposedException>());
            Assert.That(() => buffer.CopyTo(new int[1]), Throws.InstanceOf<ObjectDisposedException>());
            Assert.That(() => buffer.Clear(), Throws.InstanceOf<ObjectDisposedException>());
            Assert.That(buffer.Length, Is.EqualTo(1));
        });
    }

    [Test]
    public void TooLarge_IsOutOfMemory()
    {
        MoeException? failure = Assert.Throws<MoeException>(() => new DeviceBuffer<byte>(_context, 1L << 60));

        Assert.That(failure!.Status, Is.EqualTo(MoeStatus.OutOfMemory));
        Assert.That(failure.Message, Is.Not.Empty);
    }

    [Test]
    public void Buffer_OutlivesTheDisposalOfItsContext()
    {
        MoeContext context = TestDevice.Open(type);
        using DeviceBuffer<int> buffer = new(context, [5, 6]);
        context.Dispose();

        Assert.That(buffer.ToArray(), Is.EqualTo(new[] { 5, 6 }));
        Assert.That(() => new DeviceBuffer<int>(context, 1), Throws.InstanceOf<ObjectDisposedException>());
    }

    [Test]
    public void Forgotten_AreFreedByTheirFinalisers()
    {
        if (type == MoeDeviceType.Cpu && !OperatingSystem.IsLinux())
            Assert.Ignore("Whether host memory was freed is read from the process' virtual size, which has been tried on Linux only.");
        const int Bytes = 1 << 22;
        using System.Diagnostics.Process self = System.Diagnostics.Process.GetCurrentProcess();
        long before = self.VirtualMemorySize64;
        // Each with a context of its own, so that the two are finalised in whichever order the runtime likes.
        for (int i = 0; i < 300; i++)
        {
            Forget();
            if (i % 20 == 19)
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
            }
        }
        self.Refresh();
        Assert.That(self.VirtualMemorySize64 - before, Is.LessThan(150L * Bytes));

        void Forget()
        {
            MoeContext context = type == MoeDeviceType.Cpu
                ? new MoeContext(new MoeContextOptions { ThreadCount = 1 }) : TestDevice.Open(type);
            _ = new DeviceBuffer<byte>(context, Bytes);
            _ = new CudaStream(context);
            _ = new CudaEvent(context);
        }
    }
}
