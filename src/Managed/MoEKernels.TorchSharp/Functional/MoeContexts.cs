using System.Collections.Concurrent;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// The native contexts of tensors: on the CPU one per thread count that TorchSharp was told to use, on CUDA one per device, made when the
/// first tensor of it comes. They live as long as the process.
/// </summary>
internal static class MoeContexts
{
    private static readonly ConcurrentDictionary<int, Lazy<MoeContext>> CpuContexts = new();
    private static readonly ConcurrentDictionary<int, Lazy<MoeContext>> CudaContexts = new();

    /// <summary>
    /// The stream of every call: the default stream of the tensors' device. TorchSharp has no streams, so that is where libtorch puts its own
    /// work, in autograd's threads too, and the two are in order.
    /// </summary>
    public const nint Stream = 0;

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
        global::TorchSharp.DeviceType.CUDA => Cuda(tensor.device_index),
        _ => throw new NotSupportedException($"Tensors on {tensor.device} are not supported; expected the CPU or a CUDA device."),
    };

    /// <exception cref="MoeBackendUnavailableException">The device cannot be used; the message says why.</exception>
    public static MoeContext Cuda(int index) => Get(CudaContexts, index, CreateCuda);

    private static MoeContext Get(ConcurrentDictionary<int, Lazy<MoeContext>> contexts, int key, Func<int, MoeContext> create)
    {
        Lazy<MoeContext> context = contexts.GetOrAdd(key, static (k, make) => new Lazy<MoeContext>(() => make(k)), create);
        try
        {
            return context.Value;
        }
        catch
        {
            // A Lazy that failed keeps its exception, and the reason (a missing library) may be gone at the next call.
            contexts.TryRemove(KeyValuePair.Create(key, context));
            throw;
        }
    }

    private static MoeContext CreateCpu(int threads) => new(new MoeContextOptions
    {
        ThreadCount = threads,
        ParallelFunction = threads > 1 ? TorchThreads.ParallelFunction : 0,
    });

    private static MoeContext CreateCuda(int index)
    {
        try
        {
            return new MoeContext(new MoeContextOptions { Device = MoeDeviceType.Cuda, DeviceIndex = index });
        }
        catch (MoeBackendUnavailableException reason)
        {
            throw new MoeBackendUnavailableException(
                $"The tensors are on cuda:{index}, which needs the native library built with CUDA (build.sh --cuda on) beside the other one; move them to the CPU otherwise. {reason.Message}");
        }
    }
}
