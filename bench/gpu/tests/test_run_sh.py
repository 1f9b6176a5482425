"""run.sh on a machine without a GPU: its arguments, and what it says of each step."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import support

RUN = support.GPU / "run.sh"


def run(*arguments):
    return subprocess.run([RUN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)


class Arguments(unittest.TestCase):
    def test_bad_ones_are_refused_with_what_was_expected(self):
        for arguments, text in (
            ((), "got 0 folders, expected GTEST_SOURCES and OUT"),
            (("a", "b", "--steps", "build,fly"), "unknown step 'fly'"),
            (("a", "b", "--limit", "soon"), "--limit 'soon'; expected seconds"),
            (("a", "b", "--merge", "nowhere.json"), "--merge 'nowhere.json' is no file"),
            (("a", "b", "--fast"), "unknown option '--fast'"),
            (("a", "b", "--steps"), "--steps needs a value"),
        ):
            with self.subTest(arguments=arguments):
                done = run(*arguments)
                self.assertEqual(done.returncode, 2)
                self.assertIn(text, done.stderr)


@unittest.skipIf(shutil.which("nvidia-smi"), "this machine may have a GPU")
class WithoutAGpu(unittest.TestCase):
    def test_every_step_says_why_it_does_not_run(self):
        with tempfile.TemporaryDirectory() as folder:
            done = run("nowhere", folder, "--steps", "build,sanitizers,time", "--build", "nowhere")
            self.assertEqual(done.returncode, 1)
            lines = (pathlib.Path(folder) / "summary.txt").read_text().splitlines()
            self.assertEqual([line.split()[0] for line in lines],
                             ["build", "memcheck", "racecheck", "initcheck", "synccheck", "time"])
            for line in lines:
                self.assertIn("not run: no NVIDIA GPU: there is no nvidia-smi", line)
            self.assertIn("nowhere/CMakeLists.txt is missing: GTEST_SOURCES holds no GoogleTest", lines[0])
            self.assertIn("nowhere/bin/moekernels_tests is missing", lines[1])
            self.assertTrue((pathlib.Path(folder) / "run.log").exists())

    def steps_with_a_stand_in(self, folder, *arguments, programs=(), status=1):
        """Runs with a stand-in for nvidia-smi over a build whose tests cannot succeed; returns the summary.
        `programs` are more of what the build has made: a name and what the shell runs."""
        folder = pathlib.Path(folder)
        binaries = folder / "build/bin"
        binaries.mkdir(parents=True, exist_ok=True)
        for path, text in ((folder / "nvidia-smi", "echo 9.0"), (folder / "python3", "exit 1"),
                           (binaries / "moekernels_tests", 'test "$MOEK_TEST_DEVICE" = cuda && exit 3'),
                           *((binaries / name, text) for name, text in programs)):
            path.write_text(f"#!/bin/sh\n{text}\n")
            path.chmod(0o755)
        (binaries / "libmoekernels_cuda.so").touch()
        done = subprocess.run([RUN, "nowhere", folder / "out", "--build", folder / "build", *arguments], stdout=subprocess.PIPE,
                              env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}, text=True, check=False)
        self.assertEqual(done.returncode, status)
        return (folder / "out/summary.txt").read_text()

    def test_a_failing_step_does_not_stop_the_next(self):
        with tempfile.TemporaryDirectory() as folder:
            summary = self.steps_with_a_stand_in(folder, "--steps", "tests,check,tests")
            self.assertRegex(summary, r"^tests +\d+ s  FAILED \(3\)\ncheck +\d+ s  not run: \S+ has no PyTorch that reaches a GPU\n"
                                      r"tests +\d+ s  FAILED \(3\)\n$")

    def test_what_the_gpu_returned_is_kept_and_the_emulation_compared_with_it(self):
        write = ("moekernels_conformance_gpu", 'test "$1" = write && echo returned > "$2"')
        for emulated, status, word in (("returned", 0, "ok"), ("other", 1, r"FAILED \(1\)")):
            with self.subTest(emulated=emulated), tempfile.TemporaryDirectory() as folder:
                compare = ("moekernels_conformance", f'test "$1" = compare && grep -qx {emulated} "$2"')
                summary = self.steps_with_a_stand_in(folder, "--steps", "conformance", programs=(write, compare), status=status)
                self.assertRegex(summary, rf"^conformance +\d+ s  {word}\n$")
                self.assertEqual((pathlib.Path(folder) / "out/conformance.txt").read_text(), "returned\n")

    def test_no_time_is_left(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertIn("not run: no time is left", self.steps_with_a_stand_in(folder, "--steps", "tests", "--limit", "5"))


if __name__ == "__main__":
    unittest.main()
