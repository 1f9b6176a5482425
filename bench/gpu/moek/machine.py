"""The machine: what it is called, and what it can do at best, measured."""

import platform
import re
import subprocess

import torch

from .floors import Ceilings


def describe(device, library, command, commit):
    """What a reader must know to repeat a measurement."""
    facts = {"command": command, "commit": commit or library.build_info.get("commit", ""),
             "library": {key: library.build_info.get(key, "") for key in ("version", "compiler", "build", "sm")},
             "torch": torch.__version__, "python": platform.python_version()}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        facts.update(gpu=properties.name, multiprocessors=properties.multi_processor_count,
                     capability=f"{properties.major}.{properties.minor}", l2_bytes=properties.L2_cache_size,
                     memory_bytes=properties.total_memory, cuda=torch.version.cuda, driver=nvidia_smi("driver_version"),
                     clocks=nvidia_smi("clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem"))
    else:
        facts.update(gpu=f"cpu {platform.machine()}", l2_bytes=2**20, memory_bytes=2**30)
    return facts


def nvidia_smi(query):
    try:
        done = subprocess.run(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader", "--id=0"], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def short_gpu_name(name):
    """The model, for a folder's name: "NVIDIA H100 80GB HBM3" is h100."""
    words = re.sub(r"[^a-z0-9 ]", " ", name.lower()).split()
    models = [word for word in words if re.fullmatch(r"[a-z]+\d+[a-z]*", word) and not word.startswith("hbm")]
    return models[0] if models else "-".join(words) or "unknown"


def measure_ceilings(timer, device, memory_bytes):
    """Bytes per second of a large copy, read and written, and operations per second of large products."""
    way = timer.ways[0]
    count = int(min(2**30, memory_bytes // 64))
    source = torch.randn(count // 4, device=device)
    target = torch.empty_like(source)
    copy = 2 * source.numel() * 4 / (timer.measure(way, [lambda: target.copy_(source)]).median * 1e-6)
    del source, target
    matrix = {}
    for name, dtype in (("bf16", torch.bfloat16), ("f16", torch.float16), ("tf32", torch.float32), ("f32", torch.float32)):
        n = 64 if device == "cpu" else 4096 if name == "f32" else 8192
        a, b = (torch.randn((n, n), device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        with tf32(name == "tf32"):
            matrix[name] = 2 * n**3 / (timer.measure(way, [lambda: torch.mm(a, b, out=out)]).median * 1e-6)
    return Ceilings(copy, matrix)


def measure_launch(timer, device):
    """Microseconds of the least work there is: what a call of one launch cannot beat."""
    tiny = torch.zeros(1, device=device)
    return timer.measure(timer.ways[0], [lambda: tiny.add_(1)]).median


class tf32:
    """Lets f32 products of PyTorch run on TF32 tensor cores, or not, for the time being."""

    def __init__(self, allowed):
        self._precision = "high" if allowed else "highest"

    def __enter__(self):
        self._before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(self._precision)

    def __exit__(self, *unused):
        torch.set_float32_matmul_precision(self._before)
