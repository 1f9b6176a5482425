namespace MoEKernels.BindingsGenerator.Model;

/// <summary>A Doxygen comment, taken apart but with its inline markup still in place.</summary>
/// <param name="Owner">The C name the comment belongs to, for error messages.</param>
/// <param name="Description">Everything that is not said about a parameter or the result.</param>
/// <param name="Parameters">Text per C parameter name.</param>
/// <param name="Returns">Text about the result.</param>
internal sealed record DocComment(
    string Owner,
    IReadOnlyList<DocBlock> Description,
    IReadOnlyDictionary<string, DocBlock> Parameters,
    DocBlock? Returns);

/// <summary>A paragraph, or lines whose layout matters (formulas).</summary>
internal sealed record DocBlock(bool IsPreformatted, IReadOnlyList<string> Lines);
