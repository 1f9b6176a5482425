"""Floors, grids and reports."""

import dataclasses
import json
import pathlib
import tempfile
import unittest

import support  # noqa: F401
from moek import floors, report
from moek.core_merge import CoreMerge
from moek.floors import Ceilings
from moek.gate import Gate
from moek.grid import GRIDS, decoding, points, smora

# What was measured on an H200: the numbers that the floors below were derived from by hand.
H200 = Ceilings(4.3e12, {"bf16": 790e12, "f32": 50e12, "tf32": 400e12, "f16": 790e12})


class Floors(unittest.TestCase):
    def microseconds(self, case, direction):
        return floors.floor_seconds(case, direction, H200) * 1e6

    def test_rank_lora(self):
        self.assertAlmostEqual(self.microseconds(smora(8192), "forward"), 31.6, delta=0.05)
        self.assertAlmostEqual(self.microseconds(smora(8192, accumulate=True), "forward"), 47.2, delta=0.05)
        self.assertAlmostEqual(self.microseconds(smora(8192), "backward"), 62.4, delta=0.1)
        self.assertAlmostEqual(self.microseconds(smora(8192, accumulate=True), "backward"), 78.0, delta=0.1)
        self.assertAlmostEqual(self.microseconds(smora(1), "forward"), 0.37, delta=0.01)

    def test_core_merge_and_gate(self):
        self.assertAlmostEqual(self.microseconds(CoreMerge(8192, 4096, 4096, 64, 8, "bf16"), "forward"), 31.5, delta=0.1)
        self.assertAlmostEqual(self.microseconds(Gate(8192, 64, 8, saves=False), "forward"), 0.6, delta=0.05)
        self.assertAlmostEqual(self.microseconds(Gate(8192, 512, 8, saves=False), "forward"), 4.1, delta=0.1)

    def test_operations(self):
        self.assertAlmostEqual(floors.operations(smora(8192), "forward") / 1e9, 12.9, delta=0.05)
        self.assertAlmostEqual(floors.operations(smora(8192), "backward") / 1e9, 25.8, delta=0.05)

    def test_arithmetic_binds_where_there_is_more_of_it(self):
        slow = dataclasses.replace(H200, matrix={**H200.matrix, "bf16": 1e12})
        self.assertAlmostEqual(floors.floor_seconds(smora(8192), "forward", slow), 12.9e-3, delta=1e-4)

    def test_minimal_bytes_count_what_a_call_is_given(self):
        case = Gate(10, 16, 2, "bf16")
        forward = 10 * 16 * 2 + 10 * 2 * (4 + 4) + 16 * 4 + 10 * 4
        self.assertEqual(floors.minimal_bytes(case, "forward"), forward)
        self.assertEqual(floors.minimal_bytes(dataclasses.replace(case, accumulate=True), "forward"), forward + 16 * 4)
        self.assertEqual(floors.minimal_bytes(case, "backward"), 2 * 10 * 16 * 2 + 10 * 2 * (4 + 4) + 10 * 4)


class Grids(unittest.TestCase):
    def test_points_come_once_and_can_be_built(self):
        for grid in GRIDS:
            with self.subTest(grid=grid):
                cases = [point.case for point in points(grid)]
                self.assertEqual(len(cases), len(set(cases)))
                for case in cases:
                    self.assertGreater(floors.minimal_bytes(case, "forward"), 0)
                    self.assertLess(floors.minimal_bytes(case, "forward"), 2**32)

    def test_decoding_keeps_nothing(self):
        self.assertEqual({slot.name for slot in decoding(4).slots() if slot.forward == "out"}, {"y", "ids", "gates"})


def sample(median):
    return {"median": median, "low": median - 1, "high": median + 1, "batches": 11}


def record(text, times):
    return {"section": "rank_lora", "case": {"text": text, "dtype": "bf16"}, "bytes": {"forward": 4e6, "backward": 8e6},
            "floor_us": {"forward": 5.0, "backward": 10.0}, "times": times}


class Reports(unittest.TestCase):
    def setUp(self):
        machine = {"gpu": "NVIDIA H200", "commit": "abc", "command": "compare.py", "torch": "2", "driver": "580", "cuda": "13",
                   "clocks": "", "library": {"version": "0", "build": "release", "compiler": "nvcc", "sm": "sm_90a"}}
        mine = {"forward": {"graph": sample(10.0), "eager": sample(12.0)}, "backward": {"graph": sample(20.0), "eager": sample(25.0)}}
        torch = {"forward": {"graph": sample(30.0)}, "forward+backward": {"graph": sample(90.0)}}
        results = [record("T=1", {"moekernels": mine, "torch": torch, "vLLM": {"skipped": "not installed"}})]
        self.document = report.document(machine, Ceilings(1e12, {"bf16": 1e12}), 2.0, "2026-01-01", results, ["gate T=2"])

    def test_the_table(self):
        text = report.markdown(self.document)
        self.assertIn("| T=1 | bf16 | forward | 10.0 (9.0-11.0) | 12.0 | 400 | 40% | 5.0 | 50% | 3.00 |", text)
        # 90 - 30 over 20
        self.assertIn("| T=1 | bf16 | backward | 20.0 (19.0-21.0) | 25.0 | 400 | 40% | 10.0 | 50% | 3.00 |", text)
        self.assertIn("- vLLM: not installed (1 points, the first T=1)", text)
        self.assertIn("Left out for lack of time: gate T=2.", text)

    def test_merging_keeps_what_was_not_measured_again(self):
        newer = {**self.document, "results": [record("T=2", {})]}
        self.assertEqual([r["case"]["text"] for r in report.merged(self.document, newer)["results"]], ["T=1", "T=2"])
        self.assertEqual(len(report.merged(self.document, self.document)["results"]), 1)
        other = json.loads(json.dumps(self.document))
        other["machine"]["commit"] = "def"
        with self.assertRaisesRegex(ValueError, "commit"):
            report.merged(other, newer)

    def test_both_files_are_written(self):
        with tempfile.TemporaryDirectory() as folder:
            json_file, markdown_file = report.write(self.document, pathlib.Path(folder) / "h200", "2026-01-01-abc")
            self.assertEqual(json.loads(json_file.read_text()), self.document)
            self.assertEqual(markdown_file.name, "2026-01-01-abc.md")


if __name__ == "__main__":
    unittest.main()
