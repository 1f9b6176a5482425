"""Loads the library moekernels and calls it.

The structs are made from the header's field names and types, and every offset and size is compared with what the library
itself reports (moek_struct_layout), so that a header of another version is noticed before anything is called.
"""

import ctypes

from .header import Header

_TYPES = {
    "int32_t": ctypes.c_int32,
    "uint32_t": ctypes.c_uint32,
    "int64_t": ctypes.c_int64,
    "uint64_t": ctypes.c_uint64,
    "double": ctypes.c_double,
    "char": ctypes.c_char,
    "pointer": ctypes.c_void_p,
}


class MoekError(Exception):
    """A call that did not return OK."""

    def __init__(self, call, status, text):
        super().__init__(f"{call}: {status}: {text}")
        self.unsupported = status == "unsupported"


class Library:
    """The shared library and its structs: library.structs["moek_gate_args"] is a ctypes class."""

    def __init__(self, path, header_path):
        self.header = Header(header_path)
        self._library = ctypes.CDLL(path)
        self._library.moek_status_name.restype = ctypes.c_char_p
        self._library.moek_build_info.restype = ctypes.c_char_p
        self._library.moek_last_error.argtypes = [ctypes.c_char_p, ctypes.c_uint64]
        self._library.moek_struct_layout.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint64),
                                                     ctypes.POINTER(ctypes.c_uint64)]
        version = self._library.moek_abi_version()
        if version != self.header["ABI_VERSION"]:
            raise ValueError(f"{path} has ABI version {version}, the header {self.header['ABI_VERSION']}")
        self.structs = {name: self._make_struct(name, fields) for name, fields in self.header.structs.items()}
        self.build_info = dict(line.split("=", 1) for line in self._library.moek_build_info().decode().splitlines() if line)

    def function(self, name, *argument_types):
        """A function that returns a status, as one that raises MoekError unless it is OK."""
        raw = getattr(self._library, name)
        raw.argtypes = argument_types
        raw.restype = ctypes.c_int32

        def call(*arguments):
            status = raw(*arguments)
            if status != 0:
                raise MoekError(name, self._library.moek_status_name(status).decode(), self._last_error())

        return call

    def new(self, struct):
        """An instance of a struct, zero but for its size."""
        made = self.structs[struct]()
        made.struct_size = ctypes.sizeof(made)
        return made

    def _last_error(self):
        text = ctypes.create_string_buffer(4096)
        self._library.moek_last_error(text, len(text))
        return text.value.decode(errors="replace")

    def _make_struct(self, name, fields):
        members = []
        for field, kind, count in fields:
            if kind not in _TYPES:
                raise ValueError(f"{name}.{field} has the type {kind}, expected one of {sorted(_TYPES)}")
            members.append((field, _TYPES[kind] * count if count is not None else _TYPES[kind]))
        struct = type(name, (ctypes.Structure,), {"_fields_": members})
        self._compare_layout(name, None, 0, ctypes.sizeof(struct))
        for field, _, _ in fields:
            place = getattr(struct, field)
            self._compare_layout(name, field, place.offset, place.size)
        return struct

    def _compare_layout(self, struct, field, offset, size):
        true_offset, true_size = ctypes.c_uint64(), ctypes.c_uint64()
        status = self._library.moek_struct_layout(struct.encode(), field.encode() if field else None,
                                                  ctypes.byref(true_offset), ctypes.byref(true_size))
        what = f"{struct}.{field}" if field else struct
        if status != 0:
            raise ValueError(f"the library does not know {what}: {self._last_error()}")
        if (true_offset.value, true_size.value) != (offset, size):
            raise ValueError(f"{what} is at {true_offset.value} with {true_size.value} bytes in the library, "
                             f"but at {offset} with {size} bytes by the header")


class Context:
    """A device to run on. `device_type` is "CPU" or "CUDA"."""

    def __init__(self, library, device_type, device_index=0, thread_count=0, cuda_library=None):
        self.library = library
        self.device_type = device_type
        options = library.new("moek_context_options")
        options.device_type = library.header["DEVICE_TYPE_" + device_type]
        options.device_index = device_index
        options.thread_count = thread_count
        path = ctypes.create_string_buffer(cuda_library.encode()) if cuda_library else None
        if path is not None:
            options.cuda_library = ctypes.addressof(path)
        self.handle = ctypes.c_void_p()
        create = library.function("moek_context_create", ctypes.POINTER(type(options)), ctypes.POINTER(ctypes.c_void_p))
        create(ctypes.byref(options), ctypes.byref(self.handle))

    def close(self):
        if self.handle:
            self.library.function("moek_context_destroy", ctypes.c_void_p)(self.handle)
            self.handle = None

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()
