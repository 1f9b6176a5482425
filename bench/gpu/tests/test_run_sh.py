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

    def test_no_time_left_stops_the_steps_behind(self):
        """With a stand-in for nvidia-smi and steps that cannot succeed."""
        with tempfile.TemporaryDirectory() as folder:
            stand_in = pathlib.Path(folder) / "nvidia-smi"
            stand_in.write_text("#!/bin/sh\necho 9.0\n")
            stand_in.chmod(0o755)
            tests = pathlib.Path(folder) / "build/bin/moekernels_tests"
            tests.parent.mkdir(parents=True)
            tests.write_text("#!/bin/sh\ntest \"$MOEK_TEST_DEVICE\" = cuda && exit 3\n")
            tests.chmod(0o755)
            (tests.parent / "libmoekernels_cuda.so").touch()
            out = pathlib.Path(folder) / "out"
            environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
            for limit, result in (("60", "FAILED (3)"), ("5", "not run: no time is left")):
                done = subprocess.run([RUN, "nowhere", out, "--steps", "tests", "--limit", limit, "--build", tests.parents[1]],
                                      env=environment, stdout=subprocess.PIPE, text=True, check=False)
                self.assertEqual(done.returncode, 1)
                self.assertIn(result, (out / "summary.txt").read_text())


if __name__ == "__main__":
    unittest.main()
