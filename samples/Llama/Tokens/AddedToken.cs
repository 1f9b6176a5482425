namespace Llama;

/// <summary>A token that no merges lead to: where its text stands, it is meant.</summary>
/// <param name="Text">Its text.</param>
/// <param name="Id">Its number.</param>
internal sealed record AddedToken(string Text, int Id)
{
    /// <summary>Reads one of Hugging Face's descriptions of such a token.</summary>
    /// <param name="fields">The description.</param>
    /// <param name="id">Its number.</param>
    /// <exception cref="UserException">It would also take the blanks around it, or match whole words only.</exception>
    public static AddedToken Read(JsonFields fields, int id)
    {
        foreach (string flag in (string[])["lstrip", "rstrip", "single_word"])
        {
            if (fields.Flag(flag, false))
                throw fields.Wrong(flag, "false");
        }

        string text = fields.Text("content");
        return text.Length > 0 ? new AddedToken(text, id) : throw fields.Wrong("content", "a text that is not empty");
    }
}
