using System.Text.RegularExpressions;

namespace MoEKernels.TorchSharp;

/// <summary>One entry of <see cref="AdapterConfig.TargetModules"/>: <c>all-linear</c>, the end of a path, or a glob over the path.</summary>
internal sealed class ModulePattern
{
    private readonly string _text;
    private readonly Regex? _glob;

    public ModulePattern(string text)
    {
        if (string.IsNullOrWhiteSpace(text))
            throw new ArgumentException("A module pattern is empty; expected a name, a glob or \"all-linear\".", nameof(text));
        _text = text;
        if (text.AsSpan().ContainsAny('*', '?'))
        {
            string expression = Regex.Escape(text).Replace("\\*", ".*", StringComparison.Ordinal).Replace("\\?", ".", StringComparison.Ordinal);
            _glob = new Regex($"^{expression}$", RegexOptions.CultureInvariant | RegexOptions.NonBacktracking);
        }
    }

    public bool Matches(string path)
    {
        if (_text == AdapterConfig.AllLinear)
            return true;
        if (_glob is not null)
            return _glob.IsMatch(path);
        return path.EndsWith(_text, StringComparison.Ordinal)
            && (path.Length == _text.Length || path[path.Length - _text.Length - 1] == '.');
    }
}
