using MoEKernels;

namespace RawCuda;

/// <summary>
/// SMoRA's forward pass (64 ranks, 8 of them active per token) in bf16 on device buffers: everything a call needs, made once.
/// </summary>
internal sealed class RankLoraCall : IDisposable
{
    private const int Ranks = 64, Active = 8;

    private static readonly RankLoraOptions Maths = RankLoraOptions.Smora(alpha: 16, k: Active) with { BiasMode = BiasMode.None };

    private readonly MoeContext _context;
    private readonly RankLoraShape _shape;
    private readonly BFloat16[] _x, _a, _b, _router;
    private readonly DeviceBuffer<BFloat16> _deviceX, _deviceA, _deviceB, _deviceRouter, _y;
    private readonly DeviceBuffer<int> _ids;
    private readonly DeviceBuffer<float> _gates;
    private readonly DeviceBuffer<byte> _workspace;
    private readonly RankLoraArgs _args;

    internal RankLoraCall(MoeContext context, long tokens, long width)
    {
        _context = context;
        _shape = new RankLoraShape(T: tokens, DIn: width, DOut: width, R: Ranks, K: Active);
        Random random = new(1);
        _x = Values(tokens * width, 1);
        _a = Values(Ranks * width, 1 / Math.Sqrt(width));
        _b = Values(width * Ranks, 0.1);
        _router = Values(Ranks * width, 1 / Math.Sqrt(width));

        _deviceX = new DeviceBuffer<BFloat16>(context, _x);
        _deviceA = new DeviceBuffer<BFloat16>(context, _a);
        _deviceB = new DeviceBuffer<BFloat16>(context, _b);
        _deviceRouter = new DeviceBuffer<BFloat16>(context, _router);
        _y = new DeviceBuffer<BFloat16>(context, tokens * width);
        _ids = new DeviceBuffer<int>(context, tokens * Active);
        _gates = new DeviceBuffer<float>(context, tokens * Active);
        _args = new RankLoraArgs
        {
            Shape = _shape,
            Options = Maths,
            DTypes = DTypeSet.BF16,
            X = _deviceX.Address,
            A = _deviceA.Address,
            B = _deviceB.Address,
            Wr = _deviceRouter.Address,
            Y = _y.Address,
            Ids = _ids.Address,
            Gates = _gates.Address,
        };
        _workspace = new DeviceBuffer<byte>(context, RankLora.ForwardWorkspace(context, _args));

        BFloat16[] Values(long count, double scale)
        {
            BFloat16[] values = new BFloat16[count];
            for (int i = 0; i < values.Length; i++)
                values[i] = BFloat16.FromSingle((float)((random.NextDouble() * 2 - 1) * scale));
            return values;
        }
    }

    /// <summary>Bytes that have to move in any case: x and the weights in, y out.</summary>
    internal long LeastBytes => _deviceX.ByteLength + _y.ByteLength + _deviceA.ByteLength + _deviceB.ByteLength + _deviceRouter.ByteLength;

    internal long DeviceBytes => LeastBytes + _ids.ByteLength + _gates.ByteLength + _workspace.ByteLength;

    /// <summary>Queues one forward pass; it neither allocates nor waits, so that a graph can capture it.</summary>
    internal void Queue(CudaStream stream) => RankLora.Forward(_context, _args, _workspace.Address, _workspace.Length, stream.Handle);

    /// <summary>The largest difference from the same op on spans, over the first tokens, relative to the largest value.</summary>
    internal double LargestDifference(CudaStream stream, int tokens)
    {
        int rows = (int)Math.Min(tokens, _shape.T), count = rows * (int)_shape.DOut;
        BFloat16[] got = new BFloat16[count], expected = new BFloat16[count];
        _y.CopyTo(got, stream: stream);
        RankLora.Forward<BFloat16, BFloat16, float>(_shape with { T = rows }, Maths, _x.AsSpan(0, count), _a, _b, expected,
            new int[rows * Active], new float[rows * Active], _router);
        double largest = expected.Max(value => Math.Abs(value.ToSingle()));
        return got.Zip(expected, (g, e) => Math.Abs(g.ToSingle() - e.ToSingle())).Max() / largest;
    }

    public void Dispose()
    {
        foreach (IDisposable buffer in (IDisposable[])[_deviceX, _deviceA, _deviceB, _deviceRouter, _y, _ids, _gates, _workspace])
            buffer.Dispose();
    }
}
