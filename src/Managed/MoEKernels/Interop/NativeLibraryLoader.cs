using System.Diagnostics.CodeAnalysis;
using System.Reflection;
using System.Runtime.InteropServices;
using MoEKernels.Native;

namespace MoEKernels.Interop;

/// <summary>
/// Finds and loads the native library, once, and writes down each step. An override that is stated and does not work is
/// a failure: falling back silently would run another library than the one asked for.
/// </summary>
internal sealed class NativeLibraryLoader
{
    private readonly List<string> _trace = [];
    private nint _library;

    /// <summary>Each step and its outcome.</summary>
    internal IReadOnlyList<string> Trace => _trace;

    /// <summary>Where the library came from; null before <see cref="Load"/>.</summary>
    internal string? Path { get; private set; }

    /// <summary>File name of the library on this platform.</summary>
    internal static string FileName =>
        OperatingSystem.IsWindows() ? $"{NativeHeader.LibraryName}.dll"
        : OperatingSystem.IsMacOS() || OperatingSystem.IsIOS() ? $"lib{NativeHeader.LibraryName}.dylib"
        : $"lib{NativeHeader.LibraryName}.so";

    /// <summary>Loads the library and makes the imports of this assembly use it.</summary>
    /// <exception cref="MoeLibraryLoadException">There is none that can be loaded.</exception>
    internal void Load(Func<nint>? resolver, string? overridePath)
    {
        Assembly assembly = typeof(NativeLibraryLoader).Assembly;
        string? variable = Environment.GetEnvironmentVariable(MoeRuntime.LibraryPathVariable);
        if (!TryResolver(resolver)
            && !TryOverride(overridePath, $"{nameof(MoeRuntime)}.{nameof(MoeRuntime.LibraryPath)}")
            && !TryOverride(variable, MoeRuntime.LibraryPathVariable)
            && !TryAppLocal(assembly) && !TryDefaultProbing(assembly))
        {
            throw new MoeLibraryLoadException(
                $"The native library '{FileName}' for {RuntimeInformation.RuntimeIdentifier} was not found or cannot "
                + $"be loaded. It belongs into runtimes/{PortableRuntimeIdentifier}/native beside the application; to use "
                + $"one elsewhere, set {nameof(MoeRuntime)}.{nameof(MoeRuntime.LibraryPath)} or the environment "
                + $"variable {MoeRuntime.LibraryPathVariable} to its full path.", [.. _trace]);
        }

        try
        {
            NativeLibrary.SetDllImportResolver(assembly, Resolve);
        }
        catch (InvalidOperationException)
        {
            // Only one resolver per assembly exists, and the application was first; its choice stands.
            _trace.Add("the application has set its own import resolver for this assembly, which decides");
        }
    }

    private nint Resolve(string name, Assembly assembly, DllImportSearchPath? searchPath) =>
        name == NativeHeader.LibraryName ? _library : 0;

    private bool TryResolver(Func<nint>? resolver)
    {
        const string Step = $"{nameof(MoeRuntime)}.{nameof(MoeRuntime.LibraryResolver)}";
        if (resolver is null)
        {
            _trace.Add($"{Step}: not set");
            return false;
        }
        try
        {
            _library = resolver();
        }
        catch (Exception failure)
        {
            _trace.Add($"{Step}: threw {failure.GetType().Name}: {OneLine(failure.Message)}");
            throw new MoeLibraryLoadException($"{Step} failed: {failure.Message}", [.. _trace], failure);
        }
        if (_library == 0)
        {
            _trace.Add($"{Step}: declined (returned 0)");
            return false;
        }
        Path = $"(from {Step})";
        _trace.Add($"{Step}: gave a library");
        return true;
    }

    private bool TryOverride(string? path, string step)
    {
        if (string.IsNullOrEmpty(path))
        {
            _trace.Add($"{step}: not set");
            return false;
        }
        string full = System.IO.Path.GetFullPath(path);
        if (Directory.Exists(full))
            full = System.IO.Path.Combine(full, FileName);
        if (TryFile(full, step))
            return true;
        throw new MoeLibraryLoadException(
            $"{step} is '{path}', and no library could be loaded from there. Correct or remove it.", [.. _trace]);
    }

    private bool TryAppLocal(Assembly assembly)
    {
        string baseDirectory = AppContext.BaseDirectory;
        string? assemblyDirectory = DirectoryOf(assembly);
        string[] directories = assemblyDirectory is null || SameDirectory(assemblyDirectory, baseDirectory)
            ? [baseDirectory] : [assemblyDirectory, baseDirectory];

        foreach (string directory in directories)
        {
            string folder = System.IO.Path.Combine(directory, "runtimes", PortableRuntimeIdentifier, "native");
            if (TryFile(System.IO.Path.Combine(folder, FileName), "app-local"))
                return true;
        }
        foreach (string directory in directories)
        {
            if (TryFile(System.IO.Path.Combine(directory, FileName), "beside the application"))
                return true;
        }
        return false;
    }

    private bool TryDefaultProbing(Assembly assembly)
    {
        try
        {
            _library = NativeLibrary.Load(NativeHeader.LibraryName, assembly, null);
            Path = NativeHeader.LibraryName;
            _trace.Add($"default probing for '{NativeHeader.LibraryName}': loaded");
            return true;
        }
        catch (Exception failure) when (failure is DllNotFoundException or BadImageFormatException)
        {
            _trace.Add($"default probing for '{NativeHeader.LibraryName}': {OneLine(failure.Message)}");
            return false;
        }
    }

    private bool TryFile(string path, string step)
    {
        if (!File.Exists(path))
        {
            _trace.Add($"{step}: {path}: no such file");
            return false;
        }
        try
        {
            _library = NativeLibrary.Load(path);
            Path = path;
            _trace.Add($"{step}: {path}: loaded");
            return true;
        }
        catch (Exception failure) when (failure is DllNotFoundException or BadImageFormatException)
        {
            _trace.Add($"{step}: {path}: {OneLine(failure.Message)}");
            return false;
        }
    }

    /// <summary>
    /// The folder name under runtimes/: RuntimeIdentifier may be distribution-specific ("debian.12-x64").
    /// </summary>
    private static string PortableRuntimeIdentifier
    {
        get
        {
            bool isMusl = RuntimeInformation.RuntimeIdentifier.Contains("musl", StringComparison.Ordinal)
                || RuntimeInformation.RuntimeIdentifier.StartsWith("alpine", StringComparison.Ordinal);
            string system = OperatingSystem.IsWindows() ? "win" : OperatingSystem.IsMacOS() ? "osx"
                : isMusl ? "linux-musl" : "linux";
            string architecture = RuntimeInformation.ProcessArchitecture switch
            {
                Architecture.X64 => "x64",
                Architecture.Arm64 => "arm64",
                Architecture.X86 => "x86",
                var other => other.ToString().ToUpperInvariant(),
            };
            return $"{system}-{architecture}";
        }
    }

    [UnconditionalSuppressMessage("SingleFile", "IL3000",
        Justification = "Empty in a single file, where the base directory is searched.")]
    private static string? DirectoryOf(Assembly assembly) =>
        assembly.Location is { Length: > 0 } location ? System.IO.Path.GetDirectoryName(location) : null;

    private static bool SameDirectory(string left, string right) => string.Equals(
        System.IO.Path.TrimEndingDirectorySeparator(left), System.IO.Path.TrimEndingDirectorySeparator(right),
        OperatingSystem.IsWindows() ? StringComparison.OrdinalIgnoreCase : StringComparison.Ordinal);

    private static string OneLine(string text) => string.Join(
        ' ', text.Split(['\r', '\n'], StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries));
}
