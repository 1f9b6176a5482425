using System.Runtime.InteropServices;

namespace MoEKernels.Tests;

/// <summary>
/// What the test assembly does when it is started as a program: it runs its own tests ("test", then a category or nothing),
/// or loads the native library in a fresh process, where a test decides what lies beside it, and prints what came of it.
/// </summary>
internal static class ChildProgram
{
    internal const int LoadFailed = 3;

    private static int Main(string[] args)
    {
        switch (args)
        {
            case ["test", ..]:
                return TestPrograms.TestRun.Run(args.ElementAtOrDefault(1));
            case ["path", var path]:
                MoeRuntime.LibraryPath = path;
                break;
            case ["resolver-throws"]:
                MoeRuntime.LibraryResolver = () => throw new InvalidOperationException("no library today");
                break;
            case ["resolver-declines"]:
                MoeRuntime.LibraryResolver = () => 0;
                break;
            case ["resolver", var path]:
                MoeRuntime.LibraryResolver = () => NativeLibrary.Load(path);
                break;
            case ["own-import-resolver", var path]:
                NativeLibrary.SetDllImportResolver(typeof(MoeRuntime).Assembly, (_, _, _) => NativeLibrary.Load(path));
                break;
        }

        if (!MoeRuntime.TryInitialize(out MoeLibraryLoadException? failure))
        {
            Console.WriteLine(failure!.Message);
            return LoadFailed;
        }
        Console.WriteLine(MoeRuntime.Describe());
        return 0;
    }
}
