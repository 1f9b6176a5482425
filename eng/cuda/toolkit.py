"""Reads what nvcc made: the kernels in a library, their resources and their machine instructions."""

import concurrent.futures
import dataclasses
import os
import re
import subprocess
import tempfile


@dataclasses.dataclass(frozen=True)
class Usage:
    """What one kernel takes on one architecture; bytes, and registers per thread."""

    registers: int
    shared: int
    stack: int
    local: int


class Toolkit:
    """The CUDA toolkit around an nvcc."""

    def __init__(self, nvcc):
        self.nvcc = nvcc
        self._bin = os.path.dirname(os.path.realpath(nvcc))

    def version(self):
        """Major and minor version, such as "12.4"."""
        match = re.search(r"release (\d+\.\d+)", self._run("nvcc", "--version"))
        if match is None:
            raise ValueError(f"{self.nvcc} --version names no release")
        return match.group(1)

    def usages(self, library):
        """{(kernel, architecture): Usage} of everything in the library."""
        mangled = parse_usages(self._run("cuobjdump", "-res-usage", library))
        return self._by_short_name(mangled, _larger)

    def opcodes(self, library):
        """{(kernel, architecture): {opcode, ...}}, opcodes with their modifiers, such as HMMA.16816.F32.BF16."""
        # One file of machine code at a time and several at once: much faster than cuobjdump -sass on the whole library.
        with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            self._run("cuobjdump", "-xelf", "all", os.path.abspath(library), folder=folder)
            files = sorted(os.listdir(folder))
            texts = pool.map(lambda file: self._run("nvdisasm", "-c", file, folder=folder), files)
            mangled = {}
            for file, text in zip(files, texts):
                for name, opcodes in parse_opcodes(text).items():
                    mangled.setdefault((name, architecture_of(file)), set()).update(opcodes)
        return self._by_short_name(mangled, lambda a, b: a | b)

    def _by_short_name(self, found, merge):
        mangled_names = sorted({name for name, _ in found})
        short = self._short_names(mangled_names)
        result = {}
        for (name, architecture), value in found.items():
            key = (short[name], architecture)
            result[key] = merge(result[key], value) if key in result else value
        return result

    def _short_names(self, mangled_names):
        if not mangled_names:
            return {}
        # -p leaves the parameters out, which template arguments make redundant.
        demangled = self._run("cu++filt", "-p", *mangled_names).splitlines()
        if len(demangled) != len(mangled_names):
            raise ValueError(f"cu++filt gave {len(demangled)} names for {len(mangled_names)}")
        short = {mangled: short_name(text) for mangled, text in zip(mangled_names, demangled)}
        origins = {}
        for mangled, name in short.items():
            other = origins.setdefault(name, mangled)
            if other != mangled:
                raise ValueError(f"two kernels are both called {name}: {other} and {mangled}; rename one of them")
        return short

    def _run(self, tool, *arguments, folder=None):
        command = [os.path.join(self._bin, tool), *arguments]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise ValueError(f"{' '.join(command[:3])} failed ({done.returncode}): {done.stderr.strip()}")
        return done.stdout


def _larger(a, b):
    """The same template instance in two object files: counted once, at its worst."""
    return Usage(*(max(pair) for pair in zip(dataclasses.astuple(a), dataclasses.astuple(b))))


def short_name(demangled):
    """A kernel's name for people: moek::cuda::<unnamed>::rows<__nv_bfloat16, (int)4, (bool)1> is rows<bf16,4,true>."""
    name = demangled.strip()
    name = re.sub(r"\bmoek::(cuda::)?", "", name).replace("<unnamed>::", "").replace("(anonymous namespace)::", "")
    name = name.replace("(bool)0", "false").replace("(bool)1", "true")
    name = re.sub(r"\((?:unsigned |signed )?(?:char|short|int|long|long long)\)(?=-?\d)", "", name)
    name = name.replace("__nv_bfloat16", "bf16").replace("__half", "f16")
    name = re.sub(r"^void (?=\S)", "", name)
    return re.sub(r"\s+", "", name)


_ARCHITECTURE = re.compile(r"^arch = (sm_\w+)")
_RESOURCE_FUNCTION = re.compile(r"^\s*Function (\S+):")
_RESOURCES = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


def parse_usages(text):
    """{(mangled name, architecture): Usage} from the output of cuobjdump -res-usage."""
    result = {}
    architecture = function = None
    for line in text.splitlines():
        if match := _ARCHITECTURE.match(line):
            architecture = match.group(1)
        elif match := _RESOURCE_FUNCTION.match(line):
            function = match.group(1)
        elif (match := _RESOURCES.search(line)) and function is not None:
            registers, stack, shared, local = map(int, match.groups())
            usage = Usage(registers, shared, stack, local)
            key = (function, architecture)
            result[key] = _larger(result[key], usage) if key in result else usage
            function = None
    return result


_CODE_SECTION = re.compile(r"^\s*\.section\s+(?:\.text\.([^,\s]+))?")
_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:\{\s*)?(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)")


def parse_opcodes(text):
    """{mangled name: {opcode, ...}} from the output of nvdisasm -c."""
    result = {}
    opcodes = None
    for line in text.splitlines():
        if match := _INSTRUCTION.match(line):
            if opcodes is not None:
                opcodes.add(match.group(1))
        elif match := _CODE_SECTION.match(line):
            opcodes = result.setdefault(match.group(1), set()) if match.group(1) else None
    return result


def architecture_of(file):
    """sm_90a from libmoekernels_cuda.7.sm_90a.cubin."""
    match = re.search(r"\.(sm_\w+)\.cubin$", file)
    if match is None:
        raise ValueError(f"{file} does not say its architecture")
    return match.group(1)
