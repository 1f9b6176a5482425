using Llama;

return SampleProgram.Run(Run, "interrupted");

int Run(CancellationToken cancellation)
{
    switch (RequestParser.Parse(args, Console.Out))
    {
        case TinyOptions tiny:
            TinyCheckpoint.Write(tiny);
            Console.WriteLine($"a tiny {ModelConfigReader.NameOf(tiny.Family)} model with random weights is in {tiny.Folder}");
            break;
        case RunOptions run:
            new LlamaRun(run, Terminal.Create(), cancellation).Execute();
            break;
    }

    return SampleProgram.Success;
}
