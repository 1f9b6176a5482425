using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using MoEKernels.Interop;
using MoEKernels.Logging;
using MoEKernels.Native;

namespace MoEKernels;

/// <summary>
/// The native library behind everything: where it is found, what it is, which devices it sees. It is loaded by the
/// first call that needs it. Searched, in this order: <see cref="LibraryResolver"/>, <see cref="LibraryPath"/>, the
/// environment variable named by <see cref="LibraryPathVariable"/>, <c>runtimes/&lt;rid&gt;/native</c> beside the
/// assembly and the application, these folders themselves, and the runtime's own probing.
/// </summary>
public static unsafe class MoeRuntime
{
    /// <summary>Environment variable with the full path of the native library, or of its folder.</summary>
    public const string LibraryPathVariable = "MOEKERNELS_LIBRARY";

    /// <summary>
    /// Environment variable with the full path of the CUDA library, where it is not beside the native library. It is
    /// read by native code: set it before the process starts.
    /// </summary>
    public const string CudaLibraryPathVariable = "MOEKERNELS_CUDA_LIBRARY";

    private static readonly Lock LoadLock = new();
    private static volatile LoadState? _state;
    private static volatile ILogger _logger = NullLogger.Instance;
    private static string? _libraryPath;
    private static Func<nint>? _libraryResolver;
    private static BackendChoice? _backend;

    /// <summary>
    /// Full path of the native library, or of its folder; null: search. Can be set only before the library is first
    /// used.
    /// </summary>
    /// <exception cref="InvalidOperationException">Set after first use.</exception>
    public static string? LibraryPath
    {
        get => _libraryPath;
        set => SetBeforeLoad(ref _libraryPath, value, nameof(LibraryPath));
    }

    /// <summary>
    /// Loads the native library in the application's own way and returns its handle, or 0 to let the search go on. Can
    /// be set only before the library is first used.
    /// </summary>
    /// <exception cref="InvalidOperationException">Set after first use.</exception>
    public static Func<nint>? LibraryResolver
    {
        get => _libraryResolver;
        set => SetBeforeLoad(ref _libraryResolver, value, nameof(LibraryResolver));
    }

    /// <summary>
    /// Receives messages of the runtime and of every context without a logger of its own. Default: none.
    /// </summary>
    public static ILogger Logger
    {
        get => _logger;
        set
        {
            ArgumentNullException.ThrowIfNull(value);
            _logger = value;
        }
    }

    /// <summary>Where the library was loaded from.</summary>
    /// <exception cref="MoeLibraryLoadException">The native library cannot be loaded.</exception>
    public static string LoadedLibraryPath => Loaded().Path;

    /// <summary>
    /// Each step taken to find the library and its outcome, also after a failure. Loads the library if need be.
    /// </summary>
    public static IReadOnlyList<string> LoadTrace => State().Trace;

    /// <summary>Version of the ABI that this assembly and the library share.</summary>
    /// <exception cref="MoeLibraryLoadException">The native library cannot be loaded.</exception>
    public static int AbiVersion => Loaded().AbiVersion;

    /// <summary>What the library says about itself.</summary>
    /// <exception cref="MoeLibraryLoadException">The native library cannot be loaded.</exception>
    public static MoeBuildInfo BuildInfo => Loaded().BuildInfo!;

    /// <summary>
    /// The backend that suits this machine: CUDA when its library loads and finds a device, else the CPU. It is advice;
    /// <see cref="MoeContext.Default"/> is always a CPU context, since spans live in host memory.
    /// </summary>
    /// <exception cref="MoeLibraryLoadException">The native library cannot be loaded.</exception>
    public static BackendChoice DefaultBackend => _backend ?? ChooseBackend();

    /// <summary>
    /// Threads of <see cref="MoeContext.Default"/>, the calling one included; initially one per core this process may
    /// use. Setting it replaces the default context (0: back to one per core); results do not depend on it.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">Set to less than 0.</exception>
    /// <exception cref="MoeLibraryLoadException">The native library cannot be loaded.</exception>
    public static int DefaultThreadCount
    {
        get => MoeContext.Default.ThreadCount;
        set
        {
            ArgumentOutOfRangeException.ThrowIfNegative(value);
            MoeContext.ReplaceDefault(value);
        }
    }

    /// <summary>Loads the library now, instead of with the first call that needs it.</summary>
    /// <exception cref="MoeLibraryLoadException">
    /// It cannot be loaded; the exception holds the trace of the search.
    /// </exception>
    public static void Initialize() => Loaded();

    /// <summary>Loads the library now and says whether that worked.</summary>
    /// <param name="failure">Why not; null on success.</param>
    public static bool TryInitialize(out MoeLibraryLoadException? failure)
    {
        failure = State().Failure;
        return failure is null;
    }

    /// <summary>All devices: the CPU, then the GPUs if the CUDA library can be used.</summary>
    /// <exception cref="MoeLibraryLoadException">The native library cannot be loaded.</exception>
    public static IReadOnlyList<MoeDevice> GetDevices()
    {
        List<MoeDevice> devices = [.. GetDevices(MoeDeviceType.Cpu)];
        if (TryCountDevices(MoeDeviceType.Cuda, out int count, out _) == MoeStatus.Ok)
            AddDevices(devices, MoeDeviceType.Cuda, count);
        return devices;
    }

    /// <summary>The devices of one kind.</summary>
    /// <param name="type">Kind of device.</param>
    /// <exception cref="MoeBackendUnavailableException">This kind cannot be used; the message says why.</exception>
    /// <exception cref="MoeLibraryLoadException">The native library cannot be loaded.</exception>
    public static IReadOnlyList<MoeDevice> GetDevices(MoeDeviceType type)
    {
        Require.Defined((uint)type, (uint)MoeDeviceType.Cuda, nameof(type), nameof(MoeDeviceType));
        Loaded();
        int count = 0;
        NativeError.ThrowIfFailed(NativeMethods.DeviceCount((int)type, &count));
        List<MoeDevice> devices = new(count);
        AddDevices(devices, type, count);
        return devices;
    }

    /// <summary>
    /// What a bug report needs: library, build, devices, backend and load trace, as lines of text. Never throws a load
    /// failure.
    /// </summary>
    public static string Describe()
    {
        LoadState state = State();
        if (state.Failure is { } failure)
            return failure.Message;
        List<string> lines = [$"library: {state.Path}", $"abi: {state.AbiVersion}", state.BuildInfo!.Text.TrimEnd()];
        foreach (MoeDevice device in GetDevices())
        {
            lines.Add($"device: {device.Type} {device.Index}: {device.Name}, {device.CoreCount} cores, "
                + $"{device.TotalMemory} bytes");
        }
        lines.Add($"backend: {DefaultBackend.Device}: {DefaultBackend.Reason}");
        lines.Add("load trace:");
        foreach (string step in state.Trace)
            lines.Add("  " + step);
        return string.Join(Environment.NewLine, lines);
    }

    private static LoadState Loaded()
    {
        LoadState state = _state ?? Load();
        // A fresh exception each time: one instance thrown twice would mix up its stack traces.
        return state.Failure is not { } failure ? state
            : throw new MoeLibraryLoadException(failure.ShortMessage, state.Trace, failure.InnerException);
    }

    private static LoadState State() => _state ?? Load();

    private static LoadState Load()
    {
        LoadState state;
        lock (LoadLock)
        {
            if (_state is { } done)
                return done;
            _state = state = LoadCore();
        }
        // Outside the lock: a logger may ask this class something, from whichever thread it likes.
        QuietLogger logger = new(_logger);
        if (state.Failure is { } failure)
            Messages.LibraryLoadFailed(logger, failure.Message);
        else if (state.BuildInfo is { } build)
            Messages.LibraryLoaded(logger, state.Path, build.Version, state.AbiVersion, build.InstructionSets);
        return state;
    }

    private static LoadState LoadCore()
    {
        NativeLibraryLoader loader = new();
        try
        {
            loader.Load(_libraryResolver, _libraryPath);
            string path = loader.Path!;
            if (AbiHandshake.FindMismatch() is { } mismatch)
            {
                return LoadState.Failed($"The native library '{path}' does not fit this assembly: {mismatch}. "
                    + "Use the library and the assembly of the same release.", loader.Trace, null);
            }
            string build = Marshal.PtrToStringUTF8((nint)NativeMethods.BuildInfo()) ?? "";
            return new LoadState(path, NativeMethods.AbiVersion(), MoeBuildInfo.Parse(build), [.. loader.Trace], null);
        }
        catch (MoeLibraryLoadException failure)
        {
            return LoadState.Failed(failure.ShortMessage, failure.Trace, failure.InnerException);
        }
        catch (Exception failure) when (
            failure is DllNotFoundException or EntryPointNotFoundException or BadImageFormatException)
        {
            return LoadState.Failed(
                $"The native library '{loader.Path}' is not a MoEKernels library of this release: {failure.Message}",
                loader.Trace, failure);
        }
    }

    private static BackendChoice ChooseBackend()
    {
        MoeStatus status = TryCountDevices(MoeDeviceType.Cuda, out int count, out string reason);
        BackendChoice choice = status != MoeStatus.Ok
            ? new BackendChoice(MoeDeviceType.Cpu, $"CUDA cannot be used: {reason}")
            : count == 0 ? new BackendChoice(MoeDeviceType.Cpu, "the CUDA library found no device")
            : new BackendChoice(MoeDeviceType.Cuda, $"{count} CUDA device{(count == 1 ? "" : "s")} found");
        if (Interlocked.CompareExchange(ref _backend, choice, null) is { } earlier)
            return earlier;
        QuietLogger logger = new(_logger);
        Messages.BackendChosen(logger, choice.Device, choice.Reason);
        return choice;
    }

    private static MoeStatus TryCountDevices(MoeDeviceType type, out int count, out string reason)
    {
        Loaded();
        int counted = 0;
        int status = NativeMethods.DeviceCount((int)type, &counted);
        reason = status == (int)MoeStatus.Ok ? "" : NativeError.Describe(status);
        count = counted;
        return (MoeStatus)status;
    }

    private static void AddDevices(List<MoeDevice> devices, MoeDeviceType type, int count)
    {
        for (int index = 0; index < count; index++)
        {
            DeviceInfo info = new() { StructSize = (uint)sizeof(DeviceInfo) };
            NativeError.ThrowIfFailed(NativeMethods.DeviceQuery((int)type, index, &info));
            devices.Add(MoeDevice.From(info));
        }
    }

    private static void SetBeforeLoad<T>(ref T field, T value, string name)
    {
        lock (LoadLock)
        {
            if (_state is not null)
            {
                throw new InvalidOperationException(
                    $"{nameof(MoeRuntime)}.{name} must be set before the native library is first used.");
            }

            field = value;
        }
    }

    private sealed record LoadState(
        string Path, int AbiVersion, MoeBuildInfo? BuildInfo, IReadOnlyList<string> Trace,
        MoeLibraryLoadException? Failure)
    {
        internal static LoadState Failed(string text, IReadOnlyList<string> trace, Exception? cause)
        {
            string[] steps = [.. trace];
            return new LoadState("", 0, null, steps, new MoeLibraryLoadException(text, steps, cause));
        }
    }
}
