using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>A block whose forward reads its fields, as most models are written.</summary>
internal sealed class TestBlock : Module<Tensor, Tensor>
{
    public readonly Module<Tensor, Tensor> query;
    public readonly Module<Tensor, Tensor> value;
    public readonly Sequential mlp;

    public TestBlock(long width)
        : base(nameof(TestBlock))
    {
        query = Linear(width, width);
        value = Linear(width, width, hasBias: false);
        mlp = Sequential(("up", Linear(width, 2 * width)), ("act", GELU()), ("down", Linear(2 * width, width)));
        RegisterComponents();
    }

    public override Tensor forward(Tensor input)
    {
        using var scope = NewDisposeScope();
        Tensor mixed = query.call(input).tanh() * value.call(input) + input;
        return (mlp.call(mixed) + mixed).MoveToOuterDisposeScope();
    }
}

/// <summary>Linear layers in fields, a ModuleList, a ModuleDict, a Sequential, an array and a list.</summary>
internal sealed class TestModel : Module<Tensor, Tensor>
{
    public readonly Module<Tensor, Tensor> head;
    public readonly ModuleList<TestBlock> blocks;
    public readonly ModuleDict<Module<Tensor, Tensor>> named = new();
    public readonly List<Module<Tensor, Tensor>> plainList;
    public readonly Module<Tensor, Tensor>[] plainArray;
    public readonly Module<Tensor, Tensor> norm;

    public TestModel(long width = 6, int depth = 2)
        : base(nameof(TestModel))
    {
        blocks = ModuleList(Enumerable.Range(0, depth).Select(_ => new TestBlock(width)).ToArray());
        named.Add("extra", Linear(width, width));
        var first = Linear(width, width);
        var second = Linear(width, width);
        plainList = [first];
        plainArray = [second];
        norm = LayerNorm(width);
        head = Linear(width, 3);
        register_module("listed", first);
        register_module("arrayed", second);
        RegisterComponents();
    }

    public override Tensor forward(Tensor input)
    {
        using var scope = NewDisposeScope();
        Tensor x = input;
        foreach (TestBlock block in blocks)
            x = block.call(x);
        x = named["extra"].call(x);
        x = plainList[0].call(x);
        x = plainArray[0].call(x);
        return head.call(norm.call(x)).MoveToOuterDisposeScope();
    }
}

/// <summary>A model with a field that cannot hold anything but a Linear.</summary>
internal sealed class SealedFieldModel : Module<Tensor, Tensor>
{
    public readonly Linear fc;

    public SealedFieldModel()
        : base(nameof(SealedFieldModel))
    {
        fc = Linear(4, 4);
        RegisterComponents();
    }

    public override Tensor forward(Tensor input) => fc.call(input);
}
