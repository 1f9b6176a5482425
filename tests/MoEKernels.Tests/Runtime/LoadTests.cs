using System.Diagnostics;
using System.Runtime.InteropServices;

namespace MoEKernels.Tests;

/// <summary>
/// Finding the native library, each case in a process of its own whose folder holds what the case wants.
/// </summary>
public sealed class LoadTests
{
    private string _folder = "";
    private string _library = "";

    [SetUp]
    public void CopyTheManagedFiles()
    {
        _library = MoeRuntime.LoadedLibraryPath;
        _folder = Directory.CreateTempSubdirectory("moekernels-load-").FullName;
        string source = TestContext.CurrentContext.TestDirectory;
        foreach (string file in (string[])["MoEKernels.Tests.dll", "MoEKernels.Tests.runtimeconfig.json",
            "MoEKernels.dll"])
        {
            File.Copy(Path.Combine(source, file), Path.Combine(_folder, file));
        }

        foreach (string file in Directory.EnumerateFiles(source, "Microsoft.Extensions.*.dll"))
            File.Copy(file, Path.Combine(_folder, Path.GetFileName(file)));
    }

    [TearDown]
    public void RemoveThem() => Directory.Delete(_folder, recursive: true);

    [Test]
    public void NoLibrary_TellsWhatToDoAndEveryStep()
    {
        (int exit, string output) = Run();

        Assert.Multiple(() =>
        {
            Assert.That(exit, Is.EqualTo(ChildProgram.LoadFailed));
            Assert.That(output, Does.Contain(Path.GetFileName(_library)).And.Contain(MoeRuntime.LibraryPathVariable));
            Assert.That(output, Does.Contain("MoeRuntime.LibraryResolver: not set"));
            Assert.That(output, Does.Contain("MoeRuntime.LibraryPath: not set"));
            Assert.That(output, Does.Contain($"{MoeRuntime.LibraryPathVariable}: not set"));
            Assert.That(output, Does.Match("app-local: .*runtimes.*native.*no such file"));
            Assert.That(output, Does.Match("beside the application: .*no such file"));
            Assert.That(output, Does.Contain("default probing for 'moekernels'"));
        });
    }

    [Test]
    public void LibraryUnderRuntimes_IsFound()
    {
        string target = Directory.CreateDirectory(Path.Combine(_folder, "runtimes",
            RuntimeInformation.RuntimeIdentifier, "native")).FullName;
        File.Copy(_library, Path.Combine(target, Path.GetFileName(_library)));

        (int exit, string output) = Run();

        Assert.That(exit, Is.Zero, output);
        Assert.That(output, Does.Match("app-local: .*loaded"));
    }

    [Test]
    public void LibraryBesideTheApplication_IsFound()
    {
        File.Copy(_library, Path.Combine(_folder, Path.GetFileName(_library)));

        (int exit, string output) = Run();

        Assert.That(exit, Is.Zero, output);
        Assert.That(output, Does.Match("beside the application: .*loaded"));
    }

    [TestCase(false)]
    [TestCase(true)]
    public void Variable_NamesTheLibraryOrItsFolder(bool isFolder)
    {
        (int exit, string output) = Run(isFolder ? Path.GetDirectoryName(_library)! : _library);

        Assert.That(exit, Is.Zero, output);
        Assert.That(output, Does.Contain($"{MoeRuntime.LibraryPathVariable}: {_library}: loaded"));
    }

    [Test]
    public void Variable_NamesAMissingFile_FailsWithoutFallingBack()
    {
        File.Copy(_library, Path.Combine(_folder, Path.GetFileName(_library)));
        string missing = Path.Combine(_folder, "nowhere", "libmoekernels.so");

        (int exit, string output) = Run(missing);

        Assert.That(exit, Is.EqualTo(ChildProgram.LoadFailed));
        Assert.That(output, Does.Contain($"{MoeRuntime.LibraryPathVariable} is '{missing}'").And.Contain(
            "no such file"));
    }

    [Test]
    public void Variable_NamesAFileThatIsNoLibrary_GivesTheLoadersReason()
    {
        string text = Path.Combine(_folder, "libtext.so");
        File.WriteAllText(text, "not a library");

        (int exit, string output) = Run(text);

        Assert.That(exit, Is.EqualTo(ChildProgram.LoadFailed));
        Assert.That(output, Does.Match($"{MoeRuntime.LibraryPathVariable}: .*libtext.so: ...+"));
    }

    [Test]
    public void Variable_NamesAnotherLibrary_SaysSo()
    {
        string other = Directory.EnumerateFiles(RuntimeEnvironment.GetRuntimeDirectory(), "*System.Native*")
            .First(file => !file.EndsWith(".a", StringComparison.Ordinal));

        (int exit, string output) = Run(other);

        Assert.That(exit, Is.EqualTo(ChildProgram.LoadFailed));
        Assert.That(output, Does.Contain("is not a MoEKernels library").And.Contain("moek_abi_version"));
    }

    [Test]
    public void Path_IsUsed()
    {
        (int exit, string output) = Run(null, "path", _library);

        Assert.That(exit, Is.Zero, output);
        Assert.That(output, Does.Contain($"MoeRuntime.LibraryPath: {_library}: loaded"));
    }

    [Test]
    public void Path_GoesBeforeTheVariable()
    {
        (int exit, string output) = Run(Path.Combine(_folder, "missing.so"), "path", _library);

        Assert.That(exit, Is.Zero, output);
    }

    [Test]
    public void Resolver_ThatThrows_IsNamed()
    {
        (int exit, string output) = Run(null, "resolver-throws");

        Assert.That(exit, Is.EqualTo(ChildProgram.LoadFailed));
        Assert.That(output, Does.Contain("LibraryResolver failed: no library today"));
    }

    [Test]
    public void Resolver_ThatDeclines_LetsTheSearchGoOn()
    {
        (int exit, string output) = Run(_library, "resolver-declines");

        Assert.That(exit, Is.Zero, output);
        Assert.That(output, Does.Contain("LibraryResolver: declined"));
    }

    [Test]
    public void Resolver_GivesTheLibrary()
    {
        (int exit, string output) = Run(null, "resolver", _library);

        Assert.That(exit, Is.Zero, output);
        Assert.That(output, Does.Contain("LibraryResolver: gave a library"));
    }

    [Test]
    public void ImportResolverOfTheApplication_Decides()
    {
        (int exit, string output) = Run(_library, "own-import-resolver", _library);

        Assert.That(exit, Is.Zero, output);
        Assert.That(output, Does.Contain("its own import resolver"));
    }

    [Test]
    public void CudaVariable_NamesTheCudaLibrary()
    {
        string missing = Path.Combine(_folder, "nowhere", "libcuda_half.so");
        Environment.SetEnvironmentVariable(MoeRuntime.CudaLibraryPathVariable, missing);
        try
        {
            (int exit, string output) = Run(_library);

            Assert.That(exit, Is.Zero, output);
            Assert.That(output, Does.Contain("backend: Cpu: CUDA cannot be used").And.Contain(missing));
        }
        finally
        {
            Environment.SetEnvironmentVariable(MoeRuntime.CudaLibraryPathVariable, null);
        }
    }

    [Test]
    public void Settings_AfterFirstUse_AreLocked()
    {
        MoeRuntime.Initialize();

        Assert.Multiple(() =>
        {
            Assert.That(() => MoeRuntime.LibraryPath = "elsewhere",
                Throws.InvalidOperationException.With.Message.Contains("LibraryPath"));
            Assert.That(() => MoeRuntime.LibraryResolver = () =>
                0, Throws.InvalidOperationException.With.Message.Contains("LibraryResolver"));
        });
    }

    private (int Exit, string Output) Run(string? variable = null, params string[] arguments)
    {
        ProcessStartInfo start = new(Environment.ProcessPath is { } host
            && Path.GetFileNameWithoutExtension(host) == "dotnet" ? host : "dotnet")
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = _folder,
        };
        start.ArgumentList.Add(Path.Combine(_folder, "MoEKernels.Tests.dll"));
        foreach (string argument in arguments)
            start.ArgumentList.Add(argument);
        start.Environment.Remove(MoeRuntime.LibraryPathVariable);
        if (variable is not null)
            start.Environment[MoeRuntime.LibraryPathVariable] = variable;

        using Process process = Process.Start(start)!;
        Task<string> error = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        Assert.That(process.WaitForExit(60_000), "the child process hangs");
        return (process.ExitCode, output + error.Result);
    }
}
