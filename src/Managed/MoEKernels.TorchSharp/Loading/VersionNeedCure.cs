namespace MoEKernels.TorchSharp.Loading;

/// <summary>
/// Makes a library loadable beside an older C++ runtime than it was linked against, when it asks for newer symbol versions
/// without using any symbol of them.
/// </summary>
/// <remarks>
/// GCC 13 and newer put a reference to <c>std::ios_base_library_init</c> (version <c>GLIBCXX_3.4.32</c>) into everything
/// that includes <c>&lt;iostream&gt;</c>. Nothing calls it, yet the loader refuses the library where libstdc++ is older.
/// Marking that one need as weak is the loader's own way of saying that it may be missing.
/// </remarks>
internal static class VersionNeedCure
{
    /// <summary>
    /// Marks every version as weak that <paramref name="image"/> asks of <paramref name="runtimeName"/>, that
    /// <paramref name="offered"/> lacks, and that no relocation uses.
    /// </summary>
    /// <returns>The names of the versions that were missing; empty when nothing had to be changed.</returns>
    /// <exception cref="InvalidDataException">The image is damaged.</exception>
    /// <exception cref="NotSupportedException">A missing version is really used; the message names its symbols.</exception>
    public static IReadOnlyList<string> Apply(ElfImage image, string runtimeName, IReadOnlySet<string> offered)
    {
        VersionNeed[] missing =
        [
            .. image.VersionNeeds().Where(
                need => need.Library == runtimeName && !offered.Contains(need.Name) && !image.IsWeak(need)),
        ];

        // All are examined before the first is changed: the image is either cured or left as it was.
        foreach (VersionNeed need in missing)
        {
            IReadOnlyList<string> symbols = image.SymbolsInUse(need);
            if (symbols.Count > 0)
            {
                throw new NotSupportedException(
                    $"{runtimeName} of this machine is too old: it lacks {need.Name}, which {string.Join(", ", symbols)} needs");
            }
        }

        foreach (VersionNeed need in missing) image.MakeWeak(need);
        return [.. missing.Select(need => need.Name)];
    }
}
