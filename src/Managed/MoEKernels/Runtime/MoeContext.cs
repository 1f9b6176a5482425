using System.Diagnostics.CodeAnalysis;
using System.Text;
using Microsoft.Extensions.Logging;
using MoEKernels.Interop;
using MoEKernels.Logging;
using MoEKernels.Native;

namespace MoEKernels;

/// <summary>
/// A device, its options and, on the CPU, its threads. Immutable (except for the logger); calls from several threads at
/// once are safe. Dispose of it when it is no longer needed; calls that still run then finish first.
/// </summary>
public sealed unsafe class MoeContext : IDisposable
{
    private static readonly Lock DefaultLock = new();
    private static volatile MoeContext? _default;

    private readonly MoeContextHandle _handle;
    private readonly NativeLog _log;
    private readonly bool _isShared;
    // Not the handle's state: buffers and streams keep that one open.
    private volatile bool _isDisposed;

    /// <summary>Creates a context.</summary>
    /// <param name="options">What it shall be; null: the CPU with all its cores.</param>
    /// <exception cref="ArgumentException">An option is out of its range; the message names it.</exception>
    /// <exception cref="MoeLibraryLoadException">The native library cannot be loaded.</exception>
    /// <exception cref="MoeBackendUnavailableException">The device cannot be used; the message says why.</exception>
    /// <exception cref="MoeUnsupportedException">This build lacks what was asked for.</exception>
    public MoeContext(MoeContextOptions? options = null)
        : this(options ?? new MoeContextOptions(), isShared: false)
    {
    }

    private MoeContext(MoeContextOptions options, bool isShared)
    {
        Check(options);
        MoeRuntime.Initialize();
        _isShared = isShared;
        _log = new NativeLog { Logger = options.Logger };

        ContextOptions native = new()
        {
            StructSize = (uint)sizeof(ContextOptions),
            DeviceType = (int)options.Device,
            DeviceIndex = options.DeviceIndex,
            ThreadCount = options.ThreadCount,
            Isa = (int)options.InstructionSet,
            Parallel = (delegate* unmanaged[Cdecl]<delegate* unmanaged[Cdecl]<void*, void>, void*, uint, uint, void>)options.ParallelFunction,
            LogLevel = (int)LogLevels.ToNative(options.MinimumLogLevel),
        };
        byte[]? cudaLibrary = options.CudaLibraryPath is { } path ? Encoding.UTF8.GetBytes(path + '\0') : null;
        fixed (byte* cudaLibraryPointer = cudaLibrary)
        {
            native.CudaLibrary = cudaLibraryPointer;
            _handle = MoeContextHandle.Create(native, _log);
        }

        try
        {
            ContextInfo info = new() { StructSize = (uint)sizeof(ContextInfo) };
            NativeError.ThrowIfFailed(NativeMethods.ContextQuery(_handle.Pointer, &info));
            Device = (MoeDeviceType)info.DeviceType;
            DeviceIndex = info.DeviceIndex;
            ThreadCount = info.ThreadCount;
            InstructionSet = (InstructionSet)info.Isa;
        }
        catch
        {
            _handle.Dispose();
            throw;
        }
        QuietLogger logger = new(Logger);
        Messages.ContextCreated(logger, Device, DeviceIndex, ThreadCount, InstructionSet);
    }

    /// <summary>
    /// The shared CPU context that calls use when none is given, made on first use with
    /// <see cref="MoeRuntime.DefaultThreadCount"/> threads. Its <see cref="Dispose"/> does nothing.
    /// </summary>
    /// <exception cref="MoeLibraryLoadException">The native library cannot be loaded.</exception>
    public static MoeContext Default => _default ?? CreateDefault();

    /// <summary>Kind of device.</summary>
    public MoeDeviceType Device { get; }

    /// <summary>Which device of that kind, from 0.</summary>
    public int DeviceIndex { get; }

    /// <summary>CPU threads, the calling one included; 0 on a GPU.</summary>
    public int ThreadCount { get; }

    /// <summary>The instruction set in use; <see cref="InstructionSet.Auto"/> on a GPU.</summary>
    public InstructionSet InstructionSet { get; }

    /// <summary>
    /// Receives this context's messages; may be exchanged at any time. Null sets <see cref="MoeRuntime.Logger"/>.
    /// </summary>
    [AllowNull]
    public ILogger Logger
    {
        get => _log.Logger ?? MoeRuntime.Logger;
        set => _log.Logger = value;
    }

    /// <summary>Describes the device.</summary>
    /// <exception cref="ObjectDisposedException">The context was disposed of.</exception>
    /// <exception cref="MoeException">The device failed.</exception>
    public MoeDevice GetDevice()
    {
        DeviceInfo info = new() { StructSize = (uint)sizeof(DeviceInfo) };
        using ContextLease lease = Lease();
        NativeError.ThrowIfFailed(NativeMethods.ContextDeviceQuery(lease.Pointer, &info));
        return MoeDevice.From(info);
    }

    /// <summary>How much memory the device has: a GPU's own, else the host's.</summary>
    /// <exception cref="ObjectDisposedException">The context was disposed of.</exception>
    /// <exception cref="MoeException">The device failed.</exception>
    public DeviceMemory GetMemory()
    {
        ulong free = 0, total = 0;
        using ContextLease lease = Lease();
        NativeError.ThrowIfFailed(NativeMethods.MemoryQuery(lease.Pointer, &free, &total));
        return new DeviceMemory(checked((long)free), checked((long)total));
    }

    /// <summary>
    /// Releases the native context once no call runs on it and what was made on it is gone. A second call does nothing.
    /// </summary>
    public void Dispose()
    {
        if (_isShared)
            return;
        _isDisposed = true;
        _handle.Dispose();
    }

    /// <summary>
    /// Replaces the shared context, whose thread count cannot change. Who holds the old one may go on using it.
    /// </summary>
    internal static MoeContext ReplaceDefault(int threadCount)
    {
        lock (DefaultLock)
        {
            // The old context is not disposed of here: another thread may be about to call it. Its finaliser frees it.
            return _default = new MoeContext(new MoeContextOptions { ThreadCount = threadCount }, isShared: true);
        }
    }

    /// <summary>The native context; what is made on it keeps it alive.</summary>
    /// <exception cref="ObjectDisposedException">The context was disposed of.</exception>
    internal MoeContextHandle Handle
    {
        get
        {
            ObjectDisposedException.ThrowIf(_isDisposed, this);
            return _handle;
        }
    }

    /// <summary>The native context, kept alive until the result is disposed.</summary>
    /// <exception cref="ObjectDisposedException">The context was disposed of.</exception>
    internal ContextLease Lease()
    {
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        return new ContextLease(_handle);
    }

    private static MoeContext CreateDefault()
    {
        lock (DefaultLock)
            return _default ??= new MoeContext(new MoeContextOptions(), isShared: true);
    }

    private static void Check(MoeContextOptions options)
    {
        Require.Defined((uint)options.Device, (uint)MoeDeviceType.Cuda, nameof(options), nameof(options.Device));
        Require.Defined((uint)options.InstructionSet, (uint)InstructionSet.Avx512Bf16, nameof(options),
            nameof(options.InstructionSet));
        Require.Option(options.DeviceIndex >= 0, options.DeviceIndex, "at least 0", nameof(options),
            nameof(options.DeviceIndex));
        Require.Option(options.ThreadCount >= 0, options.ThreadCount, "at least 0", nameof(options),
            nameof(options.ThreadCount));
    }
}
