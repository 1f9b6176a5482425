using MoEKernels;
using RawCuda;

Options options;
try
{
    options = Options.Parse(args);
}
catch (FormatException error)
{
    Console.Error.WriteLine($"RawCuda: {error.Message}");
    Console.Error.WriteLine(Options.Usage);
    return 2;
}

try
{
    using MoeContext context = new(new MoeContextOptions
    {
        Device = options.OnCpu ? MoeDeviceType.Cpu : MoeDeviceType.Cuda,
        DeviceIndex = options.Device,
    });
    return Run(context, options);
}
catch (MoeException error)
{
    // No library, no driver, no device, no memory: the message says which. One line, for scripts.
    Console.Error.WriteLine($"RawCuda: {error.Message.ReplaceLineEndings(" ")}");
    return 1;
}
catch (ArgumentException error)
{
    Console.Error.WriteLine($"RawCuda: {error.Message.ReplaceLineEndings(" ")}");
    return 2;
}

static int Run(MoeContext context, Options options)
{
    MoeDevice device = context.GetDevice();
    DeviceMemory memory = context.GetMemory();
    Console.WriteLine(
        $"{device.Name}, {device.CoreCount} {(options.OnCpu ? "processors" : "multiprocessors")}, {Gigabytes(memory.Free)} of {Gigabytes(memory.Total)} GB free");

    using CudaStream stream = new(context);
    using RankLoraCall call = new(context, options.Tokens, options.Width);
    Console.WriteLine($"rank_lora forward, bf16, T = {options.Tokens}, d = {options.Width}, r = 64, k = 8: {call.DeviceBytes / 1e6:F1} MB on the device");

    // The first call loads the kernels; it also shows whether they are right.
    call.Queue(stream);
    double difference = call.LargestDifference(stream, tokens: 16);
    Console.WriteLine($"largest difference from the CPU over the first tokens: {difference:E1} of the largest value");
    if (!(difference < 0.02))
    {
        Console.Error.WriteLine("RawCuda: that is more than bf16's rounding explains");
        return 1;
    }

    Report("launched", Measure(() => call.Queue(stream)));
    try
    {
        using CudaGraph graph = CudaGraph.Capture(stream, () => call.Queue(stream));
        Report($"replayed ({graph.NodeCount} node{(graph.NodeCount == 1 ? "" : "s")})", Measure(() => graph.Launch(stream)));
    }
    catch (MoeUnsupportedException reason)
    {
        Console.WriteLine($"no graph: {reason.Message}");
    }
    return 0;

    TimeSpan Measure(Action queue)
    {
        using CudaEvent start = new(context), end = new(context);
        queue();
        start.Record(stream);
        for (int i = 0; i < options.Repeats; i++)
            queue();
        end.Record(stream);
        return end.ElapsedSince(start) / options.Repeats;
    }

    void Report(string how, TimeSpan time) => Console.WriteLine(
        $"{how,-20} {time.TotalMicroseconds,10:F1} us per call, {call.LeastBytes / time.TotalSeconds / 1e9,8:F1} GB/s over the least bytes");

    static string Gigabytes(long bytes) => bytes == 0 ? "?" : (bytes / 1e9).ToString("F1", System.Globalization.CultureInfo.InvariantCulture);
}
