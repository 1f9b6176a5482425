namespace MoEKernels.Tests;

/// <summary>The raw ops on device buffers and a stream give what they give on spans.</summary>
[TestFixture(MoeDeviceType.Cpu)]
[TestFixture(MoeDeviceType.Cuda, Category = TestDevice.Gpu)]
public sealed class DeviceOpTests(MoeDeviceType type)
{
    private const int T = 5, DIn = 12, DOut = 7, R = 6, E = 4, K = 2;
    // Float sums in another order, relative to the largest value.
    private const double Tolerance = 2e-6;

    private MoeContext _context = null!;
    private CudaStream _stream = null!;
    private readonly List<IDisposable> _buffers = [];

    [OneTimeSetUp]
    public void Open()
    {
        _context = TestDevice.Open(type);
        _stream = new CudaStream(_context);
    }

    [OneTimeTearDown]
    public void Close()
    {
        _stream?.Dispose();
        _context?.Dispose();
    }

    [TearDown]
    public void Free()
    {
        _buffers.ForEach(buffer => buffer.Dispose());
        _buffers.Clear();
    }

    [Test]
    public void Gate_ForwardAndBackward()
    {
        GateShape shape = new(T, E, K);
        GateOptions options = new() { Normalize = GateNormalize.SumToOne };
        float[] logits = Values(1, T * E), dWeights = Values(2, T * K);
        int[] expectedIds = new int[T * K], expectedCounts = new int[E];
        float[] expectedWeights = new float[T * K], expectedLse = new float[T], expectedGradient = new float[T * E];
        Gate.Forward(shape, options, logits, expectedIds, expectedWeights, counts: expectedCounts, lse: expectedLse);
        Gate.Backward(shape, options, logits, expectedIds, dWeights, expectedGradient);

        DeviceBuffer<int> ids = Output<int>(T * K), counts = Output<int>(E);
        DeviceBuffer<float> weights = Output<float>(T * K), lse = Output<float>(T), gradient = Output<float>(T * E);
        GateArgs args = new()
        {
            Shape = shape,
            Options = options,
            Logits = Input(logits),
            Ids = ids.Address,
            Weights = weights.Address,
            Counts = counts.Address,
            Lse = lse.Address,
            DWeights = Input(dWeights),
            DLogits = gradient.Address,
        };
        DeviceBuffer<byte> workspace = Output<byte>(
            Math.Max(Gate.ForwardWorkspace(_context, args), Gate.BackwardWorkspace(_context, args)));
        Gate.Forward(_context, args, workspace.Address, workspace.Length, _stream.Handle);
        Gate.Backward(_context, args, workspace.Address, workspace.Length, _stream.Handle);

        Assert.That(ids.ToArray(_stream), Is.EqualTo(expectedIds));
        Assert.That(counts.ToArray(_stream), Is.EqualTo(expectedCounts));
        AssertClose(weights, expectedWeights, "weights");
        AssertClose(lse, expectedLse, "lse");
        AssertClose(gradient, expectedGradient, "dlogits");
    }

    [Test]
    public void Gate_UpdateBias()
    {
        DeviceBuffer<float> bias = new(_context, [0f, 1, 2]);
        _buffers.Add(bias);
        Gate.UpdateBias(_context, new GateBiasUpdateArgs
        {
            E = 3,
            BiasDType = DType.F32,
            Rate = 0.5,
            Counts = Input<int>([1, 2, 3]),
            Bias = bias.Address,
        }, _stream.Handle);

        Assert.That(bias.ToArray(_stream), Is.EqualTo(new[] { 0.5f, 1, 1.5f }));
    }

    [Test]
    public void Dropout_Mask()
    {
        float[] expected = new float[T * DIn];
        Dropout.Mask(expected, T, DIn, 0.4, 11, 3);

        DeviceBuffer<float> mask = Output<float>(T * DIn);
        Dropout.Mask(_context, new DropoutArgs
        {
            T = T,
            D = DIn,
            P = 0.4,
            Seed = 11,
            Offset = 3,
            MaskDType = DType.F32,
            Mask = mask.Address,
        }, _stream.Handle);

        Assert.That(mask.ToArray(_stream), Is.EqualTo(expected));
    }

    [Test]
    public void RankLora_ForwardAndBackward()
    {
        RankLoraShape shape = new(T, DIn, DOut, R, K);
        RankLoraOptions options = RankLoraOptions.Smora(alpha: 4, k: K);
        float[] x = Values(1, T * DIn), a = Values(2, R * DIn), b = Values(3, DOut * R), wr = Values(4, R * DIn),
            bias = Values(5, R), dy = Values(6, T * DOut);
        int[] expectedIds = new int[T * K];
        float[] expectedY = new float[T * DOut], expectedGates = new float[T * K], expectedU = new float[T * K],
            expectedLogits = new float[T * R], expectedDx = new float[T * DIn], expectedDa = new float[R * DIn],
            expectedDb = new float[DOut * R], expectedDwr = new float[R * DIn];
        RankLora.Forward(shape, options, x, a, b, expectedY, expectedIds, expectedGates, wr, bias, u: expectedU,
            gateLogits: expectedLogits);
        RankLora.Backward(shape, options, dy, x, a, b, expectedIds, expectedGates, expectedU, wr, bias,
            gateLogits: expectedLogits, dx: expectedDx, dA: expectedDa, dB: expectedDb, dWr: expectedDwr);

        DeviceBuffer<int> ids = Output<int>(T * K);
        DeviceBuffer<float> y = Output<float>(T * DOut), gates = Output<float>(T * K), u = Output<float>(T * K),
            logits = Output<float>(T * R), dx = Output<float>(T * DIn), dA = Output<float>(R * DIn),
            dB = Output<float>(DOut * R), dWr = Output<float>(R * DIn);
        RankLoraArgs args = new()
        {
            Shape = shape,
            Options = options,
            X = Input(x),
            A = Input(a),
            B = Input(b),
            Wr = Input(wr),
            Bias = Input(bias),
            Y = y.Address,
            Ids = ids.Address,
            Gates = gates.Address,
            U = u.Address,
            GateLogits = logits.Address,
            Dy = Input(dy),
            Dx = dx.Address,
            DA = dA.Address,
            DB = dB.Address,
            DWr = dWr.Address,
        };
        DeviceBuffer<byte> workspace = Output<byte>(
            Math.Max(RankLora.ForwardWorkspace(_context, args), RankLora.BackwardWorkspace(_context, args)));
        RankLora.Forward(_context, args, workspace.Address, workspace.Length, _stream.Handle);
        RankLora.Backward(_context, args, workspace.Address, workspace.Length, _stream.Handle);

        Assert.That(ids.ToArray(_stream), Is.EqualTo(expectedIds));
        AssertClose(y, expectedY, "y");
        AssertClose(gates, expectedGates, "gates");
        AssertClose(u, expectedU, "u");
        AssertClose(dx, expectedDx, "dx");
        AssertClose(dA, expectedDa, "dA");
        AssertClose(dB, expectedDb, "dB");
        AssertClose(dWr, expectedDwr, "dW_r");
    }

    [Test]
    public void CoreMerge_ForwardAndBackward()
    {
        CoreMergeShape shape = new(T, DIn, DOut, R, E);
        CoreMergeOptions options = new() { Scale = 0.5 };
        float[] x = Values(1, T * DIn), a = Values(2, R * DIn), b = Values(3, DOut * R), c = Values(4, E * R * R),
            wg = Values(5, E * R), dy = Values(6, T * DOut);
        float[] expectedY = new float[T * DOut], expectedU = new float[T * R], expectedP = new float[T * E],
            expectedV = new float[T * R], expectedDx = new float[T * DIn], expectedDa = new float[R * DIn],
            expectedDb = new float[DOut * R], expectedDc = new float[E * R * R], expectedDwg = new float[E * R];
        CoreMerge.Forward(shape, options, x, a, b, c, expectedY, expectedU, expectedP, expectedV, wg);
        CoreMerge.Backward(shape, options, dy, x, a, b, c, expectedU, expectedP, expectedV, wg, dx: expectedDx,
            dA: expectedDa, dB: expectedDb, dC: expectedDc, dWg: expectedDwg);

        DeviceBuffer<float> y = Output<float>(T * DOut), u = Output<float>(T * R), p = Output<float>(T * E),
            v = Output<float>(T * R), dx = Output<float>(T * DIn), dA = Output<float>(R * DIn),
            dB = Output<float>(DOut * R), dC = Output<float>(E * R * R), dWg = Output<float>(E * R);
        CoreMergeArgs args = new()
        {
            Shape = shape,
            Options = options,
            X = Input(x),
            A = Input(a),
            B = Input(b),
            C = Input(c),
            Wg = Input(wg),
            Y = y.Address,
            U = u.Address,
            P = p.Address,
            V = v.Address,
            Dy = Input(dy),
            Dx = dx.Address,
            DA = dA.Address,
            DB = dB.Address,
            DC = dC.Address,
            DWg = dWg.Address,
        };
        DeviceBuffer<byte> workspace = Output<byte>(
            Math.Max(CoreMerge.ForwardWorkspace(_context, args), CoreMerge.BackwardWorkspace(_context, args)));
        CoreMerge.Forward(_context, args, workspace.Address, workspace.Length, _stream.Handle);
        CoreMerge.Backward(_context, args, workspace.Address, workspace.Length, _stream.Handle);

        AssertClose(y, expectedY, "y");
        AssertClose(u, expectedU, "u");
        AssertClose(p, expectedP, "p");
        AssertClose(v, expectedV, "v");
        AssertClose(dx, expectedDx, "dx");
        AssertClose(dA, expectedDa, "dA");
        AssertClose(dB, expectedDb, "dB");
        AssertClose(dC, expectedDc, "dC");
        AssertClose(dWg, expectedDwg, "dW_g");
    }

    [Test]
    public void DoublesAndStrictCalls_RunOnTheCpuOnly()
    {
        DeviceBuffer<int> ids = Output<int>(T * K);
        GateArgs args = new() { Shape = new GateShape(T, E, K), Ids = ids.Address };
        GateArgs doubles = args with
        {
            LogitsDType = DType.F64,
            Logits = Input(TestData.Uniform(1, T * E)),
            Weights = Output<double>(T * K).Address,
        };
        GateArgs strict = args with
        {
            Options = new GateOptions { Flags = CallFlags.Strict },
            Logits = Input(Values(1, T * E)),
            Weights = Output<float>(T * K).Address,
        };

        Assert.Multiple(() =>
        {
            Check(doubles, "f64 runs on the CPU only");
            Check(strict, "MOEK_CALL_FLAG_STRICT runs on the CPU only");
        });

        void Check(GateArgs call, string text)
        {
            if (type == MoeDeviceType.Cpu)
            {
                Assert.That(() => Run(call), Throws.Nothing);
                return;
            }
            Assert.That(() => Run(call), Throws.TypeOf<MoeUnsupportedException>().With.Message.Contains(text));
            Assert.That(ids.ToArray(), Is.All.EqualTo(-1), "nothing was written");
        }

        void Run(GateArgs call)
        {
            DeviceBuffer<byte> workspace = Output<byte>(Gate.ForwardWorkspace(_context, call));
            Gate.Forward(_context, call, workspace.Address, workspace.Length, _stream.Handle);
        }
    }

    private static float[] Values(int seed, int count) => TestData.To<float>(TestData.Uniform(seed, count));

    private nint Input<TElement>(TElement[] values)
        where TElement : unmanaged
    {
        DeviceBuffer<TElement> buffer = new(_context, values);
        _buffers.Add(buffer);
        return buffer.Address;
    }

    // Every byte 0xFF is a NaN: what the op leaves out shows.
    private DeviceBuffer<TElement> Output<TElement>(long count)
        where TElement : unmanaged
    {
        DeviceBuffer<TElement> buffer = new(_context, count);
        _buffers.Add(buffer);
        byte[] poison = new byte[buffer.ByteLength];
        Array.Fill(poison, byte.MaxValue);
        buffer.CopyFrom(System.Runtime.InteropServices.MemoryMarshal.Cast<byte, TElement>(poison));
        return buffer;
    }

    private void AssertClose(DeviceBuffer<float> actual, float[] expected, string what) => TestData.AssertClose(
        TestData.ToDouble<float>(actual.ToArray(_stream)), TestData.ToDouble<float>(expected), Tolerance, what);
}
