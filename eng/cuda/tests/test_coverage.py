"""coverage.py: adding up, and the comparison with the list of gaps."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import coverage  # noqa: E402

GAPS = """# a comment
native/cuda/a.cu: nobody has such a device
    first line;
    second line;

native/cuda/b.hpp: another reason: with a colon
    third line;
"""


def document(*files):
    """gcov's, with (file, {line: count}) each."""
    return {"current_working_directory": str(coverage.ROOT / "native" / "build"),
            "files": [{"file": name, "lines": [{"line_number": line, "count": count} for line, count in lines]}
                      for name, lines in files]}


class Counts(unittest.TestCase):
    def test_instantiations_and_programs_add_up(self):
        counts = {}
        coverage.add_document(document(("../cuda/a.cuh", [(3, 0), (3, 2), (4, 0)]), ("../core/plan.cpp", [(1, 0)])), counts)
        coverage.add_document(document((str(coverage.ROOT / "native/cuda/a.cuh"), [(3, 1), (4, 0), (9, 5)])), counts)
        self.assertEqual(counts, {"native/cuda/a.cuh": {3: 3, 4: 0, 9: 5}})
        self.assertEqual(coverage.missed_lines(counts), {"native/cuda/a.cuh": [4]})

    def test_lines_are_printed_as_ranges(self):
        self.assertEqual(coverage.ranges([3, 4, 5, 9, 11, 12]), "3-5, 9, 11-12")


class Gaps(unittest.TestCase):
    SOURCES = {"native/cuda/a.cu": {7: "first line;", 8: "second line;", 20: "fourth line;"}, "native/cuda/b.hpp": {1: "third line;"}}

    def wrong(self, missed):
        return coverage.compare_with_gaps(missed, coverage.read_gaps(GAPS), lambda path, number: self.SOURCES[path][number])

    def test_what_is_listed_may_be_missed(self):
        self.assertEqual(self.wrong({"native/cuda/a.cu": [7, 8], "native/cuda/b.hpp": [1]}), [])

    def test_another_line_may_not(self):
        self.assertEqual(self.wrong({"native/cuda/a.cu": [7, 8, 20], "native/cuda/b.hpp": [1]}),
                         ["native/cuda/a.cu:20: never executed: fourth line;"])

    def test_what_is_executed_may_not_be_listed(self):
        self.assertEqual(self.wrong({"native/cuda/a.cu": [8], "native/cuda/b.hpp": [1]}),
                         ["coverage_gaps.txt: native/cuda/a.cu has no line that is never executed: first line;"])

    def test_a_gap_needs_a_file_and_a_reason(self):
        for text in ("    a line;\n", "native/cuda/a.cu\n    a line;\n"):
            with self.subTest(text=text), self.assertRaisesRegex(ValueError, "expected 'FILE: REASON' before 'a line;'"):
                coverage.read_gaps(text)

    def test_the_list_in_use_can_be_read(self):
        for path, _ in coverage.read_gaps(coverage.GAPS.read_text()):
            self.assertTrue((coverage.ROOT / path).is_file(), path)


if __name__ == "__main__":
    unittest.main()
