namespace MoEKernels.Tests;

/// <summary>Files of the source tree, for tests that compare generated files with their source.</summary>
internal static class RepositoryFiles
{
    internal static string Find(string relativePath)
    {
        for (DirectoryInfo? folder = new(
            TestContext.CurrentContext.TestDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "MoEKernels.sln")))
                return Path.Combine(folder.FullName, relativePath);
        }
        throw new FileNotFoundException("The tests do not run inside the repository.", relativePath);
    }
}
