using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using MoEKernels.TorchSharp.Loading;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// A node of libtorch's graph with our own backward: what TorchSharp's <c>autograd.Function</c> makes too, without its copies of outputs, lists
/// and locks. Saved tensors are libtorch's own, with their check for changes in place.
/// </summary>
/// <remarks>
/// The native node calls two functions without saying for whom, so every live node needs a pair of its own. Objects of this class own such a pair
/// and serve one node after another: libtorch tells when a node is gone.
/// </remarks>
internal sealed unsafe class GraphNode
{
    private static readonly ConcurrentBag<GraphNode> Free = [];

    // Native code holds function pointers only.
    private static readonly ConcurrentBag<GraphNode> All = [];

    private readonly ApplyCallback _apply;
    private readonly DeleteCallback _delete;
    private readonly Func<Tensor?[]> _unpack;
    private readonly nint _applyPointer;
    private readonly nint _deletePointer;
    private NativeNodes.Node _node;
    private GraphPlan? _plan;
    private nint[] _saved = [];
    private uint _given;  // the inputs that are tensors: the others have no edge

    /// <summary>How many of these wait for a node.</summary>
    public static int FreeCount => Free.Count;

    private GraphNode()
    {
        _apply = Apply;
        _delete = Delete;
        _unpack = Unpack;
        _applyPointer = Marshal.GetFunctionPointerForDelegate(_apply);
        _deletePointer = Marshal.GetFunctionPointerForDelegate(_delete);
        All.Add(this);
    }

    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    private delegate NativeNodes.Handles ApplyCallback(nint* outputGradients, int count);

    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    private delegate void DeleteCallback();

    /// <summary>Whether this TorchSharp is the one that these entry points were tried with, and they do what they should.</summary>
    public static bool IsUsable { get; } = Try();

    /// <summary>See <see cref="GraphFunction.Apply"/>.</summary>
    public static Tensor[] Apply(GraphPlan plan, Tensor?[] inputs, Func<GraphRecord> forward)
    {
        GraphRecord record;
        using (no_grad())
            record = forward();
        if (!Free.TryTake(out GraphNode? node))
            node = new GraphNode();
        return node.Enter(plan, inputs, record);
    }

    private Tensor[] Enter(GraphPlan plan, Tensor?[] inputs, GraphRecord record)
    {
        NativeNodes.Node created = NativeNodes.THSAutograd_CSharpNode_ctor(_applyPointer, _deletePointer);
        if (created.Strong == 0)
        {
            Free.Add(this);
            CheckForErrors();
        }
        _node = created;
        _plan = plan;
        try
        {
            nint* handles = stackalloc nint[inputs.Length + record.Outputs.Length];
            int given = 0;
            _given = 0;
            for (int i = 0; i < inputs.Length; i++)
            {
                if (inputs[i] is not { } input)
                    continue;
                handles[given++] = input.Handle;
                _given |= 1u << i;
            }
            var variables = new NativeNodes.Handles { Items = handles, Count = given };
            NativeNodes.THSAutograd_CSharpNode_setNextEdges(created, variables, isExecutable: 1);
            CheckForErrors();
            NativeNodes.THSAutograd_CSharpNode_clearInputMetadata(created);
            CheckForErrors();

            int count = record.Outputs.Length;
            for (int i = 0; i < count; i++)
                handles[given + i] = record.Outputs[i].Handle;
            var outputs = new NativeNodes.Handles { Items = handles + given, Count = count };
            NativeNodes.THSAutograd_Function_wrapOutputs(variables, default, default, outputs, created, NativeNodes.Allocator);
            CheckForErrors();
            var results = new Tensor[count];
            nint* wrapped = NativeNodes.Buffer(count);
            for (int i = 0; i < count; i++)
                results[i] = Tensor.UnsafeCreateTensor(wrapped[i]);

            _saved = new nint[record.Saved.Length];
            for (int i = 0; i < _saved.Length; i++)
            {
                if (record.Saved[i] is not { } saved)
                    continue;
                _saved[i] = NativeNodes.THSAutograd_SavedVariable_ctor(saved.Handle, created, isInPlaceOnView: 0);
                CheckForErrors();
            }
            return results;
        }
        finally
        {
            // From here on the outputs alone keep the node, or nothing does.
            NativeNodes.THSAutograd_CSharpNode_disposeSharedPtr(created);
            GC.KeepAlive(inputs);
            GC.KeepAlive(record.Outputs);
            GC.KeepAlive(record.Saved);
        }
    }

    // Called by libtorch; may not throw.
    private NativeNodes.Handles Apply(nint* outputGradients, int count)
    {
        try
        {
            var incoming = new Tensor?[count];
            for (int i = 0; i < count; i++)
                incoming[i] = outputGradients[i] == 0 ? null : Tensor.UnsafeCreateTensor(outputGradients[i]);
            Tensor?[] gradients = BackwardGuard.Run(_plan!.Name, _plan.Backward, _unpack, incoming);
            int inputs = System.Numerics.BitOperations.PopCount(_given);
            nint* handles = NativeNodes.Buffer(inputs);
            int next = 0;
            for (int i = 0; next < inputs; i++)
            {
                if ((_given >> i & 1) != 0)
                    handles[next++] = i < gradients.Length && gradients[i] is { } gradient ? gradient.Handle : 0;
            }
            return new NativeNodes.Handles { Items = handles, Count = inputs };
        }
        catch (Exception e)
        {
            // libtorch then says, as an ordinary error, that gradients are missing.
            BackwardGuard.Remember(e);
            return default;
        }
    }

    private Tensor?[] Unpack()
    {
        nint[] saved = _saved;
        var tensors = new Tensor?[saved.Length];
        for (int i = 0; i < saved.Length; i++)
        {
            if (saved[i] == 0)
                continue;
            // No saved tensor is an output of the node, so it need not be named.
            nint handle = NativeNodes.THSAutograd_SavedVariable_unpack(saved[i], default);
            CheckForErrors();
            tensors[i] = handle == 0 ? null : Tensor.UnsafeCreateTensor(handle);
        }
        return tensors;
    }

    // Called by libtorch when the node goes, on whatever thread lets go of it last; may not throw.
    private void Delete()
    {
        try
        {
            foreach (nint saved in _saved)
            {
                if (saved != 0)
                    NativeNodes.THSAutograd_SavedVariable_dispose(saved);
            }
            NativeNodes.THSAutograd_CSharpNode_disposeWeakPtr(_node);
            _saved = [];
            _node = default;
            _plan = null;
            Free.Add(this);
        }
        catch (Exception e)
        {
            BackwardGuard.Remember(e);
        }
    }

    private static bool Try()
    {
        if (typeof(Tensor).Assembly.GetName().Version is not { } version || !SupportedTorchSharp.HasTriedNodes(version))
            return false;
        try
        {
            using var scope = NewDisposeScope();
            using var grad = enable_grad();
            Tensor x = ones(2, dtype: ScalarType.Float32, device: CPU).requires_grad_();
            Tensor[] y = Apply(new Doubling(), [null, x], () => new GraphRecord([x * 2], [null, x]));
            y[0].backward([ones_like(x)]);
            ReadOnlySpan<float> gradient = x.grad is { } result ? result.data<float>().ToArray() : [];
            return y[0].requires_grad && gradient.SequenceEqual([2, 2]);
        }
        catch (Exception e) when (e is EntryPointNotFoundException or DllNotFoundException or ExternalException)
        {
            return false;
        }
    }

    private sealed record Doubling : GraphPlan
    {
        public override string Name => "The trial";

        public override Tensor?[] Backward(IReadOnlyList<Tensor?> saved, IReadOnlyList<Tensor?> outputGradients) =>
            [null, outputGradients[0]! * saved[1]! * 2];
    }
}
