"""One call of an op: its tensors, its structs, its workspace; forward and backward."""

import copy
import ctypes


class Call:
    """Tensors for a case and the two structs that name them. `workspace` may be shared by calls on one stream."""

    def __init__(self, context, case, memory, workspace=None):
        self.case, self.memory = case, memory
        self.slots = case.slots()
        self.tensors = {slot.name: memory.new(slot, case.padding) for slot in self.slots}
        library = context.library
        self._struct = library.structs[case.struct]
        self._context = context
        self.forward_args = self._args("forward")
        self.backward_args = self._args("backward")
        self._forward, forward_bytes = self._entry("forward", self.forward_args)
        self._backward, backward_bytes = self._entry("backward", self.backward_args)
        self.workspace_bytes = max(forward_bytes, backward_bytes)
        self.workspace = workspace
        if workspace is None or workspace[2] < self.workspace_bytes:
            self.workspace = (*memory.workspace(self.workspace_bytes), self.workspace_bytes)

    def on(self, context):
        """The same call, on the same tensors and in the same workspace, in another context of the same device and library."""
        twin = copy.copy(self)
        twin._context = context
        return twin

    def forward(self):
        self._run(self._forward, self.forward_args)

    def backward(self):
        self._run(self._backward, self.backward_args)

    def _run(self, entry, args):
        _, address, size = self.workspace
        entry(self._context.handle, ctypes.byref(args), address if size else None, size, self.memory.stream)

    def _entry(self, direction, args):
        """The function of a direction, and the bytes of workspace it asks for."""
        name = f"moek_{self.case.op}_{direction}"
        pointer = ctypes.POINTER(self._struct)
        library = self._context.library
        query = library.function(name + "_workspace", ctypes.c_void_p, pointer, ctypes.POINTER(ctypes.c_uint64))
        size = ctypes.c_uint64()
        query(self._context.handle, ctypes.byref(args), ctypes.byref(size))
        run = library.function(name, ctypes.c_void_p, pointer, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p)
        return run, size.value

    def _args(self, direction):
        args = self._context.library.new(self.case.struct)
        self.case.fill_args(args, self._context.library.header)
        for slot in self.slots:
            tensor = self.tensors[slot.name]
            if slot.strided:
                setattr(args, slot.name + "_stride", self.memory.stride(tensor))
            if getattr(slot, direction):
                setattr(args, slot.name, self.memory.address(tensor))
        return args


def dropout_mask(context, memory, slot, p, stream, seed, offset):
    """What a mask multiplies by, as the op itself reports it."""
    tensor = memory.new(slot, 0)
    library = context.library
    args = library.new("moek_dropout_args")
    args.T, args.d, args.p, args.seed, args.offset = slot.rows, slot.columns, p, seed, offset
    args.stream = library.header["DROPOUT_STREAM_" + stream]
    args.mask_dtype = library.header["DTYPE_" + slot.dtype.upper()]
    args.mask = memory.address(tensor)
    run = library.function("moek_dropout_mask", ctypes.c_void_p, ctypes.POINTER(type(args)), ctypes.c_void_p)
    run(context.handle, ctypes.byref(args), memory.stream)
    return tensor
