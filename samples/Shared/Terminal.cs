using Spectre.Console;

namespace Samples;

/// <summary>Makes the console that a run writes to.</summary>
internal static class Terminal
{
    /// <summary>A log or a pipe has no width; this one holds the tables.</summary>
    private const int WidthWithoutTerminal = 140;

    /// <summary>Colours and bars on a terminal, plain lines elsewhere.</summary>
    public static IAnsiConsole Create()
    {
        if (!Console.IsOutputRedirected)
            return AnsiConsole.Console;

        IAnsiConsole console = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Ansi = AnsiSupport.No,
            ColorSystem = ColorSystemSupport.NoColors,
            Interactive = InteractionSupport.No,
            Out = new AnsiConsoleOutput(Console.Out),
        });
        console.Profile.Width = WidthWithoutTerminal;
        return console;
    }
}
