using System.Collections.Concurrent;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// The native contexts of tensors: on the CPU one per thread count that TorchSharp was told to use, on CUDA one per device. They live as
/// long as the process.
/// </summary>
internal static class MoeContexts
{
    private static readonly ConcurrentDictionary<int, Lazy<MoeContext>> CpuContexts = new();
    private static readonly ConcurrentDictionary<int, Lazy<MoeContext>> CudaContexts = new();

    private static MoeContext? _cpuOverride;

    public static MoeContext? CpuOverride
    {
        get => Volatile.Read(ref _cpuOverride);
        set => Volatile.Write(ref _cpuOverride, value);
    }

    /// <exception cref="MoeBackendUnavailableException">There is no backend for the tensor's device; the message says why.</exception>
    /// <exception cref="NotSupportedException">The tensor is neither on the CPU nor on a CUDA device.</exception>
    public static MoeContext For(Tensor tensor) => tensor.device_type switch
    {
        global::TorchSharp.DeviceType.CPU => CpuOverride ?? Get(CpuContexts, get_num_threads(), CreateCpu),
        global::TorchSharp.DeviceType.CUDA => Get(CudaContexts, tensor.device_index, CreateCuda),
        _ => throw new NotSupportedException($"Tensors on {tensor.device} are not supported; expected the CPU or a CUDA device."),
    };

    // A Lazy that failed would keep its exception, and the reason (a missing library) may be gone at the next call.
    private static MoeContext Get(ConcurrentDictionary<int, Lazy<MoeContext>> contexts, int key, Func<int, MoeContext> create)
    {
        if (contexts.TryGetValue(key, out Lazy<MoeContext>? known) && known.IsValueCreated)
            return known.Value;
        try
        {
            return contexts.GetOrAdd(key, k => new Lazy<MoeContext>(() => create(k))).Value;
        }
        catch
        {
            contexts.TryRemove(key, out _);
            throw;
        }
    }

    private static MoeContext CreateCpu(int threads) => new(new MoeContextOptions { ThreadCount = threads });

    private static MoeContext CreateCuda(int index) => new(new MoeContextOptions { Device = MoeDeviceType.Cuda, DeviceIndex = index });
}
