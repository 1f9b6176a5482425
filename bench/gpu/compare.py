#!/usr/bin/env python3
"""Calls MoEKernels' C ABI from Python: compares its results with formulas in f64, and times it on a GPU.

    compare.py --check [--device cuda|cpu|emulated]     right? every op, gate, router, dtype and option, forward and backward
    compare.py --time --out DIR [--grid headline|sweep|full] [--seconds N]     how fast? needs a GPU and PyTorch

--check works without PyTorch on the CPU, and with the CUDA backend's emulation (--device emulated --cuda-library FILE). --time
writes DIR/<gpu>/<date>-<commit>.json and .md. README.md beside this file says what is measured and how.

Exits with 0 when everything asked for ran and was right, 1 when not, 2 for a bad argument.
"""

import argparse
import datetime
import glob
import json
import pathlib
import shlex
import sys
import time

from moek.cases import ODD, SMALL, TINY, check_cases, large_cases
from moek.check import check
from moek.host_memory import HostMemory
from moek.library import Context, Library, MoekError
from moek.variants import CAPABILITY, clusters, open_variants

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILDS = ("build/gpu/bin/libmoekernels.so", "artifacts/native/*-Release/bin/libmoekernels.so")

CPU_DTYPES = ("f32", "tf32", "bf16", "f16", "bf16 over f32", "f16 over f32", "f64")
CUDA_DTYPES = CPU_DTYPES[:-1]


def main(arguments):
    options = parse(arguments)
    library = Library(options.library or find_library(), options.header)
    status = 0
    with clusters(options.clusters), open_context(options, library) as context:
        print(f"compare: MoEKernels {library.build_info['version']} ({library.build_info['commit'] or 'commit unknown'}) on "
              f"{options.device}, seed {options.seed}", flush=True)
        if options.check:
            status = run_check(options, context)
        if options.time:
            status = run_time(options, context, shlex.join(["compare.py", *arguments])) or status
    return status


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the formulas")
    parser.add_argument("--time", action="store_true", help="time, and write a report")
    parser.add_argument("--device", choices=["cuda", "cpu", "emulated"], default="cuda")
    parser.add_argument("--library", help="libmoekernels.so; by default the one of bench/gpu/run.sh's or of the managed build")
    parser.add_argument("--cuda-library", help="libmoekernels_cuda.so or its emulation; by default the one beside the library")
    parser.add_argument("--header", default=ROOT / "native/include/moekernels.h", help=argparse.SUPPRESS)
    parser.add_argument("--arrays", choices=["auto", "torch", "plain"], default="auto",
                        help="what the check computes with: PyTorch, or plain Python on tiny shapes; auto: PyTorch if it is there")
    parser.add_argument("--only", default="", metavar="TEXT", help="only cases whose description holds this, such as rank_lora")
    parser.add_argument("--clusters", choices=["0", "2", "4"], default="0",
                        help="check and time with MOEKERNELS_CUDA_CLUSTERS set to this")
    parser.add_argument("--variants", default="2,4", metavar="A,B",
                        help="other values of it to time beside that one, where the GPU has clusters; empty: none")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the random inputs; by default a new one")
    parser.add_argument("--verbose", action="store_true", help="print every deviation")
    parser.add_argument("--grid", choices=["headline", "sweep", "full", "tiny"], default="headline")
    parser.add_argument("--seconds", type=float, default=480, help="start no new point after so long")
    parser.add_argument("--out", help="folder of the reports")
    parser.add_argument("--commit", default="", help="what was built; by default what the library says")
    parser.add_argument("--merge", metavar="JSON", help="results of an earlier run, on the same GPU at the same commit, to keep; by "
                        "default those that are already where the report goes")
    options = parser.parse_args(arguments)
    if not options.check and not options.time:
        parser.error("nothing to do: give --check or --time")
    if options.device == "emulated" and not options.cuda_library:
        parser.error("--device emulated needs --cuda-library, the path of libmoekernels_cuda_emulated.so")
    if options.time and not options.out:
        parser.error("--time needs --out")
    options.variants = [blocks for blocks in options.variants.split(",") if blocks]
    if not set(options.variants) <= {"0", "2", "4"}:
        parser.error(f"--variants {','.join(options.variants)}; expected some of 0, 2, 4")
    if options.time and options.device == "emulated":
        parser.error("an emulation's times mean nothing")
    return options


def find_library():
    for pattern in BUILDS:
        for path in sorted(glob.glob(str(ROOT / pattern))):
            return path
    raise ValueError(f"no libmoekernels.so in {' or '.join(BUILDS)}; build it, or name one with --library")


def open_context(options, library):
    if options.device == "cpu":
        return Context(library, "CPU", cuda_library=options.cuda_library)
    return Context(library, "CUDA", cuda_library=options.cuda_library)


def torch_is_there():
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True


def has_clusters(options):
    if options.device != "cuda":
        return False
    import torch
    return torch.cuda.get_device_capability() == CAPABILITY


def run_check(options, context):
    # An emulated device's memory is the host's.
    device = "cuda" if options.device == "cuda" else "cpu"
    with_torch = options.arrays == "torch" or options.arrays == "auto" and torch_is_there()
    if device == "cuda" and not with_torch:
        raise ValueError("a GPU's memory is reached through PyTorch, which is not installed for this Python")
    dtypes = CPU_DTYPES if options.device == "cpu" else CUDA_DTYPES
    sizes = [TINY]
    if with_torch:
        # An emulated product takes a million times as long as a real one.
        sizes += [ODD] if options.device == "emulated" else [ODD, SMALL]
    cases = list(check_cases(sizes, dtypes))
    if options.device == "cuda":
        cases += large_cases()
    passed = failed = 0
    not_offered = {}
    for number, case in enumerate(cases):
        if options.only not in f"{case.op} {case}":
            continue
        seed = options.seed + number
        if with_torch:
            from moek.torch_memory import TorchMemory
            memory = TorchMemory(seed, device)
        else:
            memory = HostMemory(seed)
        try:
            result = check(context, case, memory)
        except MoekError as error:
            if error.unsupported:
                not_offered[str(error)] = not_offered.get(str(error), 0) + 1
                continue
            failed += 1
            print(f"compare: FAILED {case}, seed {options.seed}: {error}", flush=True)
            continue
        passed, failed = (passed + 1, failed) if result.fine else (passed, failed + 1)
        if not result.fine or options.verbose:
            print(f"compare: {'right' if result.fine else 'FAILED'} {case}, seed {options.seed}")
            for text in result.problems + [d for d in result.deviations if options.verbose or not d.fine]:
                print(f"    {text}")
    for text, count in not_offered.items():
        print(f"compare: {count} cases are not offered here: {text}")
    print(f"compare: {passed} passed, {failed} failed, {sum(not_offered.values())} not offered", flush=True)
    if passed + failed + len(not_offered) == 0:
        raise ValueError(f"no case holds '{options.only}'")
    return 1 if failed else 0


def run_time(options, context, command):
    if not torch_is_there():
        raise ValueError("--time needs PyTorch, which is not installed for this Python")
    from moek import machine, report, timing
    from moek.grid import points
    from moek.measure import Bench, measure, shape_text

    began = time.perf_counter()
    timer = timing.GpuTimer() if options.device == "cuda" else timing.HostTimer()
    facts = machine.describe(options.device, context.library, command, options.commit)
    ceilings = machine.measure_ceilings(timer, options.device, facts["memory_bytes"])
    launch = machine.measure_launch(timer, options.device)
    print(f"compare: {facts['gpu']}: copy {ceilings.copy / 1e12:.2f} TB/s, bf16 products {ceilings.matrix['bf16'] / 1e12:.0f} "
          f"TFLOP/s, launch {launch:.1f} us", flush=True)
    variants = open_variants(lambda: open_context(options, context.library), options.variants) if has_clusters(options) else []
    bench = Bench(context, options.device, timer, ceilings, facts["l2_bytes"], facts["memory_bytes"], options.seed, variants)
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    folder = pathlib.Path(options.out) / machine.short_gpu_name(facts["gpu"])
    name = f"{date}-{facts['commit'] or 'unknown'}"
    earlier = pathlib.Path(options.merge) if options.merge else folder / f"{name}.json"
    earlier = json.loads(earlier.read_text()) if options.merge or earlier.exists() else None

    chosen = [point for point in points(options.grid) if options.only in f"{point.section} {point.case}"]
    if not chosen:
        raise ValueError(f"no point of the grid holds '{options.only}'")
    records, failures = [], []
    left_out = [f"{point.section} {shape_text(point.case)}" for point in chosen]
    for point in chosen:
        if time.perf_counter() - began > options.seconds:
            break
        text = left_out.pop(0)
        try:
            records.append(measure(bench, point))
        except MoekError as error:
            # Also an op that this backend does not offer: a report without it must say so.
            failures.append(f"{text}: {error}")
            print(f"compare: FAILED {failures[-1]}", flush=True)
            continue
        print(f"compare: {text}: " + ", ".join(
            f"{direction} {times[report.headline_way(times)]['median']:.1f} us"
            for direction, times in records[-1]["times"]["moekernels"].items()), flush=True)
        # After every point: whoever stops this run keeps what it has measured.
        written = report.document(facts, ceilings, launch, date, records, left_out + failures)
        if earlier:
            written = report.merged(earlier, written)
        paths = report.write(written, folder, name)
    if records:
        print(f"compare: wrote {paths[0]} and {paths[1].name}: {len(records)} points, {len(left_out)} left out for lack of time")
    return 1 if failures or not records else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (OSError, ValueError, MoekError) as error:
        sys.exit(f"compare: error: {error}")
