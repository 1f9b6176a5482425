using System.Runtime.InteropServices;

using TorchSharp;

namespace MoEKernels.TorchSharp.Loading;

/// <summary>
/// Gets TorchSharp's native library loaded where the system's libstdc++ is older than the one TorchSharp was linked against
/// (Debian 12, Ubuntu 22.04, …), and says what is wrong where that is not possible.
/// </summary>
/// <remarks>
/// <para>
/// The cure must run before anything of <see cref="torch"/> is touched: a failed first touch is remembered by TorchSharp for
/// the life of the process. The package therefore adds a module initializer to C# applications and test projects which
/// calls <see cref="TryPrepare"/>. Set the MSBuild property <c>MoEKernelsTorchSharpLoadFix</c> to <c>false</c> to leave it out,
/// or to <c>true</c> to add it to another kind of project; programs in other languages call <see cref="TryPrepare"/> first
/// thing in <c>main</c>.
/// </para>
/// <para>
/// TorchSharp's library asks for versions of libstdc++ from which it uses no symbol. The cure loads a copy from memory in
/// which those needs are marked as optional; no file is changed. On Windows and macOS, and where libstdc++ is new enough,
/// nothing is done.
/// </para>
/// </remarks>
public static class TorchSharpLoader
{
    private const string Shim = "libLibTorchSharp.so";
    private const string CppRuntime = "libstdc++.so.6";

    private static readonly Lock Gate = new();
    private static readonly List<string> Steps = [];
    private static bool _prepared;
    private static bool _cured;
    private static Exception? _failure;

    /// <summary>What was looked at and done so far, one line a step. Empty until <see cref="TryPrepare"/> ran.</summary>
    public static IReadOnlyList<string> LoadTrace
    {
        get
        {
            lock (Gate) return [.. Steps];
        }
    }

    /// <summary>
    /// Applies the cure if this machine needs it. Only the first call does anything; it never throws, and a failure is kept
    /// for <see cref="EnsureLoaded"/>.
    /// </summary>
    /// <returns>Whether TorchSharp's native library should load now; false when the cure was needed and failed.</returns>
    public static bool TryPrepare()
    {
        lock (Gate)
        {
            if (_prepared) return _failure is null;
            _prepared = true;
            try
            {
                Prepare();
            }
            // Called from a module initializer, where an exception would end the application before its first line,
            // although it may never use TorchSharp.
            catch (Exception exception)
            {
                _failure = exception;
                Steps.Add($"failed: {exception.Message.ReplaceLineEndings(" ")}");
            }

            return _failure is null;
        }
    }

    /// <summary>Loads TorchSharp's native libraries, or throws an exception that names the real cause.</summary>
    /// <exception cref="NotSupportedException">Another release of TorchSharp is loaded than this assembly supports.</exception>
    /// <exception cref="TorchSharpLoadException">The native libraries cannot be loaded.</exception>
    public static void EnsureLoaded()
    {
        SupportedTorchSharp.Check(typeof(torch).Assembly.GetName().Version);
        TryPrepare();
        try
        {
            torch.InitializeDeviceType(global::TorchSharp.DeviceType.CPU);
        }
        catch (Exception exception)
        {
            lock (Gate) throw new TorchSharpLoadException(Explain(exception), _failure ?? exception);
        }
    }

    private static void Prepare()
    {
        if (!OperatingSystem.IsLinux())
        {
            Steps.Add("nothing to do: only Linux builds of TorchSharp depend on the system's libstdc++");
            return;
        }

        IReadOnlyList<string> folders = LibraryFolders.All();
        if (LibraryFolders.Find(folders, Shim) is not { } shim)
        {
            Steps.Add($"left to TorchSharp: {Shim} is in none of {string.Join(", ", folders)}");
            return;
        }

        Steps.Add($"found {shim}");
        string runtime = LocateCppRuntime();
        var offered = new ElfImage(File.ReadAllBytes(runtime)).VersionDefinitions();
        byte[] bytes = File.ReadAllBytes(shim);
        IReadOnlyList<string> missing = VersionNeedCure.Apply(new ElfImage(bytes), CppRuntime, offered);
        if (missing.Count == 0)
        {
            Steps.Add($"nothing to do: {runtime} offers every version that {Shim} asks for");
            return;
        }

        Steps.Add($"{runtime} lacks {string.Join(", ", missing)}, of which {Shim} uses no symbol");

        // The copy has no folder of its own from which the loader could find these, so they have to be there before it.
        foreach (string dependency in (string[])["libc10.so", "libtorch_cpu.so", "libtorch.so"])
        {
            if (LibraryFolders.Find(folders, dependency) is { } path)
            {
                NativeLibrary.Load(path);
                Steps.Add($"loaded {path}");
            }
            else
            {
                Steps.Add($"left to the system's search: {dependency} is in none of {string.Join(", ", folders)}");
            }
        }

        Steps.Add($"loaded a copy of {Shim} that does without them {MemoryFile.Load(bytes, Shim)}");
        _cured = true;
    }

    /// <summary>The file that the process uses as libstdc++; the loader's search order is its own, so it is asked by loading.</summary>
    private static string LocateCppRuntime()
    {
        NativeLibrary.Load(CppRuntime);
        foreach (string line in File.ReadLines("/proc/self/maps"))
        {
            int path = line.IndexOf('/', StringComparison.Ordinal);
            if (path >= 0 && Path.GetFileName(line.AsSpan(path)).StartsWith(CppRuntime, StringComparison.Ordinal))
                return line[path..];
        }

        throw new FileNotFoundException($"{CppRuntime} was loaded, but no mapping of this process shows its file");
    }

    private static string Explain(Exception exception)
    {
        const string Packages = "The application needs libtorch-cpu-linux-x64, libtorch-cpu-win-x64 or libtorch-cpu-osx-arm64 2.10.0"
            + " (or their CUDA counterparts)";
        string cause = (_failure, _cured) switch
        {
            (NotSupportedException, _) => $"{_failure.Message}. Install the libstdc++ of GCC 13 or newer (Ubuntu 24.04, Debian 13)",
            (not null, _) => $"{_failure.Message.ReplaceLineEndings(" ").TrimEnd()} {Packages}",
            (null, true) => "something of TorchSharp was touched before the cure ran, and TorchSharp keeps that first failure for"
                + " the life of the process. Call TorchSharpLoader.TryPrepare() first thing in main",
            // TorchSharp's message goes on with its whole search, which the inner exception keeps.
            (null, false) => $"{exception.GetBaseException().Message.Split('\n')[0].TrimEnd()} {Packages}",
        };
        return $"TorchSharp's native libraries could not be loaded: {cause}. Steps: {string.Join("; ", Steps)}.";
    }
}
