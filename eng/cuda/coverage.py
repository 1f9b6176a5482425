#!/usr/bin/env python3
"""Which lines of the CUDA kernels the tests execute, under emulation.

    python3 eng/cuda/coverage.py [--build FOLDER] [--report]

Builds the library moekernels_cuda_covered, runs the tests of native/tests on it, adds up what gcov counted, and prints for each
file under native/cuda how many of the lines that hold code were executed, and which were not. Fails when a test fails, when a line
that was not executed is not in coverage_gaps.txt beside this file, and when a line there was executed after all.
With --report it only prints the table again.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
KERNELS = ROOT / "native" / "cuda"
GAPS = pathlib.Path(__file__).resolve().parent / "coverage_gaps.txt"
FILES_PER_CALL = 50
TARGETS = ("moekernels_cuda_covered", "moekernels_tests")

# What the device tests are on a GPU, and the tests of the library itself.
LIBRARY_TESTS = "*OnDevice*/Gpu:*OnCuda*/Gpu:CudaLibraryItself.*"
# Environment and tests; None: those that native/tests/CMakeLists.txt names for a GPU. A GPU of one multiprocessor makes other plans.
RUNS = (({}, None), ({"MOEK_EMULATION_SM_COUNT": "1"}, "*RankLora*EveryDtype*:*RankLora*EveryShape*"))


# --- running -------------------------------------------------------------------------------------------------------------

def build(folder):
    """Makes what is needed and returns the build folder."""
    if folder is not None:
        subprocess.run(["cmake", "--build", folder, "--parallel", str(os.cpu_count()), "--target", *TARGETS], check=True)
        return folder
    subprocess.run(["cmake", "-DTESTS=ON", f"-DTARGETS={','.join(TARGETS)}", "-P", "eng/NativeBuild.cmake"], check=True, cwd=ROOT)
    folders = [library.parents[1] for library in (ROOT / "artifacts" / "native").glob("*-Release/bin/libmoekernels_cuda_covered.so")]
    if len(folders) != 1:
        sys.exit(f"coverage: expected one build with libmoekernels_cuda_covered.so, got {[str(name) for name in folders]}")
    return folders[0]


def run_tests(folder):
    """Runs the tests, as many at a time as there are processors; True when all of them passed."""
    for name in folder.rglob("*.gcda"):
        name.unlink()
    chosen, excluded = (folder / "tests" / "device_tests.filter").read_text().strip().split("-", 1)
    shards = os.cpu_count()
    commands = []
    for variables, tests in RUNS:
        for shard in range(shards):
            environment = {**os.environ, **variables, "MOEK_TEST_DEVICE": "cuda", "GTEST_TOTAL_SHARDS": str(shards),
                           "MOEK_TEST_CUDA_LIBRARY": str(folder / "bin" / "libmoekernels_cuda_covered.so"),
                           "GTEST_SHARD_INDEX": str(shard)}
            pattern = f"{tests or f'{chosen}:{LIBRARY_TESTS}'}-{excluded}"
            commands.append(([folder / "bin" / "moekernels_tests", f"--gtest_filter={pattern}", "--gtest_brief=1"], environment))
    with concurrent.futures.ThreadPoolExecutor(shards) as pool:
        done = list(pool.map(lambda command: subprocess.run(command[0], env=command[1], stdout=subprocess.PIPE,
                                                            stderr=subprocess.STDOUT, text=True, check=False), commands))
    for one in done:
        print(one.stdout.strip())
    return all(one.returncode == 0 for one in done)


# --- counts --------------------------------------------------------------------------------------------------------------

def counts_of(data_files):
    """{file: {line: executions}} for the files under native/cuda."""
    counts = {}
    for first in range(0, len(data_files), FILES_PER_CALL):
        names = [str(name) for name in data_files[first:first + FILES_PER_CALL]]
        output = subprocess.run(["gcov", "--json-format", "--stdout", *names], check=True, capture_output=True, text=True).stdout
        # One document a line for each data file.
        for document in output.splitlines():
            add_document(json.loads(document), counts)
    return counts


def add_document(document, counts):
    folder = document.get("current_working_directory", "")
    for entry in document["files"]:
        path = pathlib.Path(os.path.normpath(os.path.join(folder, entry["file"])))
        if KERNELS not in path.parents:
            continue
        lines = counts.setdefault(path.relative_to(ROOT).as_posix(), {})
        # A line of a template stands there once for each instantiation.
        for line in entry["lines"]:
            number = line["line_number"]
            lines[number] = lines.get(number, 0) + line["count"]


def missed_lines(counts):
    """{file: [line]} of what was not executed."""
    missed = {path: sorted(number for number, count in lines.items() if count == 0) for path, lines in counts.items()}
    return {path: numbers for path, numbers in missed.items() if numbers}


# --- gaps ----------------------------------------------------------------------------------------------------------------

def read_gaps(text):
    """{(file, line's text)} of a file that is described at its own beginning."""
    gaps = set()
    path = None
    reason = False
    for number, line in enumerate(text.splitlines(), 1):
        line = line.rstrip()
        if not line or line.startswith("#"):
            continue
        if not line.startswith(" "):
            path, _, reason = line.partition(": ")
            continue
        if path is None or not reason:
            raise ValueError(f"line {number}: expected 'FILE: REASON' before '{line.strip()}'")
        gaps.add((path, line.strip()))
    return gaps


def compare_with_gaps(missed, gaps, line_text):
    """What is wrong, a text for each: lines missing among the gaps, and gaps that are none. line_text(file, number) is a line."""
    found = {(path, line_text(path, number)): number for path in missed for number in missed[path]}
    wrong = [f"{path}:{number}: never executed: {text}" for (path, text), number in found.items() if (path, text) not in gaps]
    wrong += [f"coverage_gaps.txt: {path} has no line that is never executed: {text}" for path, text in sorted(gaps - set(found))]
    return wrong


# --- report --------------------------------------------------------------------------------------------------------------

def ranges(numbers):
    """"3-5, 9" for [3, 4, 5, 9]."""
    result = []
    for number in numbers:
        if result and result[-1][1] == number - 1:
            result[-1][1] = number
        else:
            result.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in result)


def print_table(counts, missed):
    everything = sum(len(lines) for lines in counts.values())
    executed = everything - sum(len(numbers) for numbers in missed.values())
    for path in sorted(counts):
        numbers = missed.get(path, [])
        text = f"{path}: {len(counts[path]) - len(numbers)} of {len(counts[path])} lines"
        print(text + (f", not {ranges(numbers)}" if numbers else ""))
    print(f"in all {executed} of {everything} lines, {100.0 * executed / everything:.1f} %")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, help="a CMake build folder; default: the one that eng/NativeBuild.cmake makes")
    parser.add_argument("--report", action="store_true", help="do not run the tests again")
    arguments = parser.parse_args()

    if shutil.which("gcov") is None:
        sys.exit("coverage: gcov is missing; it comes with GCC")
    folder = build(arguments.build)
    passed = arguments.report or run_tests(folder.resolve())
    data_files = sorted(folder.rglob("*.gcda"))
    if not data_files:
        sys.exit("coverage: nothing was counted")
    counts = counts_of(data_files)
    missed = missed_lines(counts)
    print_table(counts, missed)
    sources = {path: (ROOT / path).read_text().splitlines() for path in missed}
    wrong = compare_with_gaps(missed, read_gaps(GAPS.read_text()), lambda path, number: sources[path][number - 1].strip())
    for text in wrong:
        print(text)
    if not passed:
        print("coverage: tests failed, see above")
    sys.exit(0 if passed and not wrong else 1)


if __name__ == "__main__":
    main()
