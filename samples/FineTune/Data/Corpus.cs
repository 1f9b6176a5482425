using System.Security.Cryptography;
using System.Text;

namespace FineTune;

/// <summary>Reads the text of all domains and holds out part of each.</summary>
internal static class Corpus
{
    /// <summary>Stands between two files, so that the model can learn where a text begins; text has no zero bytes of its own.</summary>
    private const byte EndOfFile = 0;

    private const double HeldOutShare = 0.10;
    private const double LargestHeldOutShare = 0.25;

    /// <summary>Fewer training sequences than this teach nothing.</summary>
    private const int FewestTrainingSequences = 16;

    /// <summary>Fewer held-out sequences than this measure nothing.</summary>
    private const int FewestHeldOutSequences = 2;

    /// <summary>Loads the domains that the options ask for.</summary>
    /// <param name="options">The options of the run.</param>
    /// <exception cref="UserException">A path is missing or unreadable, or a domain has too little text.</exception>
    public static IReadOnlyList<Domain> Load(Options options)
    {
        var sources = options.Data.Count == 0
            ? RepositoryFiles.Find("--data name=path")
            : [.. options.Data.Select(source => (source.Domain, FilesOf(source)))];
        return [.. sources.Select(source => Split(source.Domain, Read(source.Domain, source.Item2), options.Context))];
    }

    /// <summary>Holds out whole files, about a tenth of the bytes; a domain of one file loses its last tenth instead.</summary>
    /// <param name="name">The domain's name.</param>
    /// <param name="files">Name and content of each file.</param>
    /// <param name="context">The length of a training sequence in bytes.</param>
    /// <exception cref="UserException">One of the two parts is too small.</exception>
    /// <remarks>Which files are held out depends on their names alone, so it is the same whatever the seed and the file system.</remarks>
    public static Domain Split(string name, IReadOnlyList<(string Name, byte[] Text)> files, int context)
    {
        long total = files.Sum(file => (long)file.Text.Length);
        HashSet<string> heldOutNames = [];
        long heldOutBytes = 0;
        foreach ((string fileName, byte[] text) in files.OrderBy(file => Hash(file.Name), StringComparer.Ordinal))
        {
            if (heldOutBytes >= HeldOutShare * total)
                break;
            if (heldOutBytes + text.Length > LargestHeldOutShare * total)
                continue;
            heldOutNames.Add(fileName);
            heldOutBytes += text.Length;
        }

        Domain domain;
        if (heldOutBytes > FewestHeldOutSequences * context)
        {
            var training = files.Where(file => !heldOutNames.Contains(file.Name)).ToList();
            var heldOut = files.Where(file => heldOutNames.Contains(file.Name)).ToList();
            domain = new Domain(
                name, Join(training), Join(heldOut), [.. training.Select(f => f.Name)], [.. heldOut.Select(f => f.Name)]);
        }
        else
        {
            byte[] text = Join(files);
            int cut = (int)((1 - HeldOutShare) * text.Length);
            domain = new Domain(name, text[..cut], text[cut..], [.. files.Select(f => f.Name)], []);
        }

        Require(domain, "training", domain.Training.Length, (FewestTrainingSequences * context) + 1, files.Count);
        Require(domain, "held-out", domain.HeldOut.Length, (FewestHeldOutSequences * context) + 1, files.Count);
        return domain;
    }

    private static void Require(Domain domain, string part, int bytes, int least, int files)
    {
        if (bytes < least)
        {
            throw new UserException(
                $"domain '{domain.Name}' has too little text: {bytes} {part} bytes from {files} file(s), at least {least} are needed");
        }
    }

    private static IReadOnlyList<TextFile> FilesOf(DataSource source)
    {
        if (Directory.Exists(source.Path))
        {
            IReadOnlyList<TextFile> files = FileWalk.Below(source.Path);
            return files.Count > 0
                ? files
                : throw new UserException($"domain '{source.Domain}': the folder '{source.Path}' holds no files");
        }

        if (!File.Exists(source.Path))
            throw new UserException($"domain '{source.Domain}': '{source.Path}' does not exist");
        return new FileInfo(source.Path).Length > 0
            ? [new TextFile(Path.GetFileName(source.Path), source.Path)]
            : throw new UserException($"domain '{source.Domain}': '{source.Path}' is empty");
    }

    private static List<(string Name, byte[] Text)> Read(string domain, IReadOnlyList<TextFile> files)
    {
        List<(string, byte[])> texts = [];
        foreach (TextFile file in files)
        {
            try
            {
                byte[] text = File.ReadAllBytes(file.Path);
                bool isText = text.Length > 0 && !text.Contains(EndOfFile);
                if (isText)
                    texts.Add((file.Name, text));
            }
            catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
            {
                throw new UserException($"domain '{domain}': cannot read '{file.Path}': {failure.Message}", failure);
            }
        }

        return texts.Count > 0
            ? texts
            : throw new UserException($"domain '{domain}': none of its {files.Count} file(s) is text");
    }

    private static byte[] Join(IReadOnlyList<(string Name, byte[] Text)> files)
    {
        using MemoryStream joined = new();
        foreach ((_, byte[] text) in files)
        {
            joined.Write(text);
            joined.WriteByte(EndOfFile);
        }

        return joined.ToArray();
    }

    private static string Hash(string name) => Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(name)));
}
