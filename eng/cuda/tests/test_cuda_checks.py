"""The checks of eng/cuda, on a small library that nvcc builds here (skipped without an nvcc) and on their rules alone.

    python3 -m unittest discover -s eng/cuda/tests
"""

import contextlib
import io
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import instructions  # noqa: E402
import resources  # noqa: E402
from toolkit import Toolkit, Usage, short_name  # noqa: E402

NVCC = os.environ.get("CUDACXX") or shutil.which("nvcc")


def run(module, *arguments):
    """The exit code and the output of a tool's main."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        code = module.main([str(argument) for argument in arguments])
    return code, output.getvalue()


@unittest.skipUnless(NVCC, "no nvcc in CUDACXX or on PATH")
class OnABuiltLibrary(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        cls.library = cls.folder / "libfixture.so"
        subprocess.run(
            [NVCC, "-std=c++20", "-O3", "-shared", "-Xcompiler=-fPIC", "-gencode=arch=compute_80,code=sm_80",
             "-gencode=arch=compute_90a,code=sm_90a", "-o", cls.library, HERE / "fixture.cu"], check=True)

    def setUp(self):
        self.table = self.folder / "resources.tsv"
        self.common = ["--nvcc", NVCC, "--library", self.library]

    def update(self):
        code, _ = run(resources, "update", *self.common, "--table", self.table)
        self.assertEqual(code, 0)

    def check(self):
        return run(resources, "check", *self.common, "--table", self.table)

    def test_finds_every_kernel_on_both_architectures(self):
        usages = Toolkit(NVCC).usages(self.library)
        names = {"rows<float,64,false>", "rows<bf16,32,true>", "product", "local_memory"}
        self.assertEqual(set(usages), {(name, sm) for name in names for sm in ("sm_80", "sm_90a")})
        self.assertEqual(usages["rows<float,64,false>", "sm_80"].shared, 64 * 4)
        self.assertGreaterEqual(usages["local_memory", "sm_80"].stack, 64 * 4)

    def test_an_unchanged_library_fails_for_its_local_memory_only(self):
        self.update()
        code, output = self.check()
        self.assertEqual(code, 1)
        errors = [line for line in output.splitlines() if "error" in line]
        self.assertEqual(len(errors), 2)
        self.assertTrue(all("local_memory" in line and "expected none" in line for line in errors), output)

    def test_growth_and_a_new_and_a_missing_kernel_are_found(self):
        self.update()
        rows = self.table.read_text().splitlines()
        for i, row in enumerate(rows):
            if row.startswith("rows<float,64,false>"):
                cells = row.split("\t")
                cells[1] = str(int(cells[1]) - resources.REGISTER_ALLOWANCE - 1)
                cells[2] = str(int(cells[2]) - 1)
                rows[i] = "\t".join(cells)
            if row.startswith("product"):
                rows[i] = row.replace("product", "gone")
        self.table.write_text("\n".join(rows) + "\n")
        code, output = self.check()
        self.assertEqual(code, 1)
        self.assertRegex(output, r"rows<float,64,false> on sm_80 takes \d+ registers, expected at most")
        self.assertRegex(output, r"rows<float,64,false> on sm_80 takes 256 bytes of shared memory, expected at most 255")
        self.assertIn("product on sm_90a is not in the table", output)
        self.assertIn("gone on sm_90a is in the table, but not in the library", output)

    def test_a_table_of_another_toolkit_is_skipped(self):
        self.update()
        text = self.table.read_text()
        self.table.write_text(text.replace(f"# toolkit {Toolkit(NVCC).version()}", "# toolkit 1.0"))
        code, output = self.check()
        self.assertEqual(code, resources.SKIPPED)
        self.assertIn("skipped", output)

    def expect(self, text):
        file = self.folder / "instructions.txt"
        file.write_text(text)
        return run(instructions, *self.common, "--expectations", file)

    def test_instructions_that_are_there(self):
        code, output = self.expect("product * HMMA.16816.F32.BF16 LDGSTS !LDL !STL  # comment\n\nrows<* sm_* !HMMA !LDL\n")
        self.assertEqual(code, 0, output)
        self.assertIn("8 kernels", output)

    def test_instructions_that_are_missing_or_forbidden(self):
        code, output = self.expect("rows<* sm_90a HMMA\n* sm_80 !LDL !STL\n")
        self.assertEqual(code, 1)
        self.assertEqual(output.count("has no HMMA, which line 1 expects"), 2)
        self.assertIn("local_memory on sm_80 has STL, which line 2 forbids", output)
        self.assertNotIn("local_memory on sm_90a", output)

    def test_an_expectation_of_no_kernel(self):
        code, output = self.expect("renamed * HMMA\n")
        self.assertEqual(code, 1)
        self.assertIn("line 1 applies to no kernel: renamed on *", output)


class Rules(unittest.TestCase):
    def test_short_names(self):
        self.assertEqual(short_name("moek::cuda::<unnamed>::rows<__nv_bfloat16, (int)32, (bool)1>"), "rows<bf16,32,true>")
        self.assertEqual(short_name("void moek::cuda::a<(moek::Kind)2, float, (unsigned int)7>"), "a<(Kind)2,float,7>")
        self.assertEqual(short_name("moek::cuda::gemm::shrink<__half, (int)-1>"), "gemm::shrink<f16,-1>")

    def test_the_allowance_is_exact(self):
        table = {("a", "sm_80"): (30, 0)}
        at_most = Usage(30 + resources.REGISTER_ALLOWANCE, 0, 0, 0)
        self.assertEqual(resources.compare({("a", "sm_80"): at_most}, table), [])
        above = Usage(31 + resources.REGISTER_ALLOWANCE, 0, 0, 0)
        self.assertEqual(len(resources.compare({("a", "sm_80"): above}, table)), 1)

    def test_a_table_reads_as_it_was_written(self):
        usages = {("a<1>", "sm_80"): Usage(30, 16, 0, 0), ("b", "sm_90a"): Usage(40, 0, 0, 0)}
        toolkit, table = resources.parse(resources.render(usages, "12.4"))
        self.assertEqual(toolkit, "12.4")
        self.assertEqual(table, {("a<1>", "sm_80"): (30, 16), ("b", "sm_90a"): (40, 0)})

    def test_bad_files_say_what_is_wrong(self):
        with self.assertRaisesRegex(ValueError, "toolkit"):
            resources.parse("kernel\n")
        with self.assertRaisesRegex(ValueError, "line 2 is 'a sm_80'"):
            instructions.parse("# fine\na sm_80\n")

    def test_an_instruction_is_no_prefix_of_another(self):
        self.assertTrue(instructions.has({"HMMA.16816.F32"}, "HMMA"))
        self.assertTrue(instructions.has({"HMMA.16816.F32"}, "HMMA.16816"))
        self.assertFalse(instructions.has({"HMMA.16816.F32"}, "HMMA.1688"))
        self.assertFalse(instructions.has({"LDSM.16.M88"}, "LDS"))


if __name__ == "__main__":
    unittest.main()
