namespace MoEKernels;

/// <summary>
/// A GPU for C# without TorchSharp: what it is, and memory, streams, events and graphs on it. Raw ops take
/// <see cref="Context"/> and addresses of its buffers.
/// <code>
/// using CudaDevice device = CudaDevice.Open();
/// using DeviceBuffer&lt;float&gt; x = device.Allocate&lt;float&gt;(values);
/// using CudaStream stream = device.CreateStream();
/// </code>
/// </summary>
public sealed class CudaDevice : IDisposable
{
    private readonly MoeDevice _description;

    private CudaDevice(MoeContext context)
    {
        Context = context;
        _description = context.GetDevice();
    }

    /// <summary>The context that ops run on; it lives as long as this object and what was made with it.</summary>
    public MoeContext Context { get; }

    /// <summary>Which GPU, from 0; <c>CUDA_VISIBLE_DEVICES</c> changes the count.</summary>
    public int Index => _description.Index;

    /// <summary>What the maker calls it.</summary>
    public string Name => _description.Name;

    /// <summary>Compute capability, such as 9.0.</summary>
    public Version Capability => new(_description.CapabilityMajor, _description.CapabilityMinor);

    /// <summary>Streaming multiprocessors.</summary>
    public int MultiprocessorCount => _description.CoreCount;

    /// <summary>The GPUs that can be seen.</summary>
    /// <exception cref="MoeBackendUnavailableException">CUDA cannot be used; the message says why.</exception>
    /// <exception cref="MoeLibraryLoadException">The native library cannot be loaded.</exception>
    public static IReadOnlyList<MoeDevice> GetDevices() => MoeRuntime.GetDevices(MoeDeviceType.Cuda);

    /// <summary>Opens a GPU.</summary>
    /// <param name="index">Which one, from 0.</param>
    /// <param name="options">
    /// What else the context shall be, such as its logger; the kind of device and the index in it are not used.
    /// </param>
    /// <exception cref="ArgumentException">There is no such device, or an option is out of its range.</exception>
    /// <exception cref="MoeBackendUnavailableException">
    /// CUDA or this GPU cannot be used: no library, driver or device, or one that is too old; the message says which.
    /// </exception>
    /// <exception cref="MoeLibraryLoadException">The native library cannot be loaded.</exception>
    public static CudaDevice Open(int index = 0, MoeContextOptions? options = null)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        MoeContext context = new((options ?? new MoeContextOptions()) with
        {
            Device = MoeDeviceType.Cuda,
            DeviceIndex = index,
        });
        try
        {
            return new CudaDevice(context);
        }
        catch
        {
            context.Dispose();
            throw;
        }
    }

    /// <summary>How much memory it has, and how much of it is free.</summary>
    /// <exception cref="ObjectDisposedException">The device was disposed of.</exception>
    /// <exception cref="MoeException">The device failed.</exception>
    public DeviceMemory GetMemory() => Context.GetMemory();

    /// <summary>Allocates memory; its contents are undefined.</summary>
    /// <typeparam name="T">Element type.</typeparam>
    /// <param name="length">Elements, at least 0.</param>
    /// <exception cref="ArgumentOutOfRangeException">The length is negative or beyond any address space.</exception>
    /// <exception cref="ObjectDisposedException">The device was disposed of.</exception>
    /// <exception cref="MoeException">
    /// There is no such block left (<see cref="MoeStatus.OutOfMemory"/>), or the device failed.
    /// </exception>
    public DeviceBuffer<T> Allocate<T>(long length)
        where T : unmanaged => new(Context, length);

    /// <summary>Allocates memory and copies elements into it.</summary>
    /// <typeparam name="T">Element type.</typeparam>
    /// <param name="content">What it shall hold; its length becomes the buffer's.</param>
    /// <exception cref="ObjectDisposedException">The device was disposed of.</exception>
    /// <exception cref="MoeException">
    /// There is no such block left (<see cref="MoeStatus.OutOfMemory"/>), or the device failed.
    /// </exception>
    public DeviceBuffer<T> Allocate<T>(ReadOnlySpan<T> content)
        where T : unmanaged => new(Context, content);

    /// <summary>Makes a stream.</summary>
    /// <exception cref="ObjectDisposedException">The device was disposed of.</exception>
    /// <exception cref="MoeException">The device failed.</exception>
    public CudaStream CreateStream() => new(Context);

    /// <summary>Makes an event.</summary>
    /// <exception cref="ObjectDisposedException">The device was disposed of.</exception>
    /// <exception cref="MoeException">The device failed.</exception>
    public CudaEvent CreateEvent() => new(Context);

    /// <summary>
    /// Waits until the work on the default stream is done. Streams of <see cref="CreateStream"/> are synchronised by
    /// themselves.
    /// </summary>
    /// <exception cref="ObjectDisposedException">The device was disposed of.</exception>
    /// <exception cref="MoeException">The work failed.</exception>
    public void SynchronizeDefaultStream()
    {
        using CudaStream stream = CudaStream.FromHandle(Context);
        stream.Synchronize();
    }

    /// <summary>Gives the device back once nothing that was made with it is left. A second call does nothing.</summary>
    public void Dispose() => Context.Dispose();
}
