#!/usr/bin/env python3
"""Checks that kernels consist of the machine instructions they are meant to: native/cuda/instructions.txt.

    instructions.py --nvcc NVCC --library LIBRARY [--expectations FILE]

A line of that file is a kernel's name (with * and ?), an architecture (likewise) and instructions; one with a ! must not be
there. HMMA stands for every instruction of that name, HMMA.16816 for those with this modifier. A line that applies to no kernel
is an error, so that a renamed kernel does not lose its expectations.
"""

import argparse
import dataclasses
import fnmatch
import pathlib
import sys

from toolkit import Toolkit

EXPECTATIONS = pathlib.Path(__file__).resolve().parents[2] / "native/cuda/instructions.txt"


@dataclasses.dataclass(frozen=True)
class Expectation:
    line: int
    kernel: str
    architecture: str
    wanted: tuple
    forbidden: tuple

    def applies_to(self, kernel, architecture):
        return fnmatch.fnmatchcase(kernel, self.kernel) and fnmatch.fnmatchcase(architecture, self.architecture)


def parse(text):
    """The expectations of a file's text."""
    expectations = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        if len(words) < 3:
            raise ValueError(f"line {number} is '{line}', expected a kernel, an architecture and instructions")
        wanted = tuple(word for word in words[2:] if not word.startswith("!"))
        forbidden = tuple(word[1:] for word in words[2:] if word.startswith("!"))
        expectations.append(Expectation(number, words[0], words[1], wanted, forbidden))
    return expectations


def has(opcodes, instruction):
    """Whether one of the opcodes is the instruction, whatever further modifiers it has."""
    return any(opcode == instruction or opcode.startswith(instruction + ".") for opcode in opcodes)


def compare(opcodes_of, expectations):
    """What is wrong, one sentence each."""
    problems = []
    for expectation in expectations:
        matching = [key for key in sorted(opcodes_of) if expectation.applies_to(*key)]
        if not matching and opcodes_of:
            problems.append(f"line {expectation.line} applies to no kernel: {expectation.kernel} on {expectation.architecture}")
        for key in matching:
            where = f"{key[0]} on {key[1]}"
            problems += [f"{where} has no {instruction}, which line {expectation.line} expects"
                         for instruction in expectation.wanted if not has(opcodes_of[key], instruction)]
            problems += [f"{where} has {instruction}, which line {expectation.line} forbids"
                         for instruction in expectation.forbidden if has(opcodes_of[key], instruction)]
    return problems


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nvcc", required=True)
    parser.add_argument("--library", required=True)
    parser.add_argument("--expectations", type=pathlib.Path, default=EXPECTATIONS)
    options = parser.parse_args(arguments)

    expectations = parse(options.expectations.read_text())
    opcodes_of = Toolkit(options.nvcc).opcodes(options.library)
    problems = compare(opcodes_of, expectations)
    for problem in problems:
        print(f"instructions: error: {problem}")
    if problems:
        return 1
    print(f"instructions: {len(opcodes_of)} kernels (all architectures counted) meet {len(expectations)} expectations")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (OSError, ValueError) as error:
        sys.exit(f"instructions: error: {error}")
