"""Settings that are being tried: when they are set, what they concern, and that a difference is found."""

import contextlib
import io
import os
import unittest

import support
from moek.call import Call
from moek.core_merge import CoreMerge
from moek.grid import gate, smora
from moek.host_memory import HostMemory
from moek.library import Context, Library
from moek.variants import CLUSTERS, Variant, clusters, compare_bits, open_variants


class Settings(unittest.TestCase):
    def test_the_variable_has_its_value_while_a_context_is_made(self):
        self.assertNotIn(CLUSTERS, os.environ)
        variants = open_variants(lambda: os.environ[CLUSTERS], ["2", "4"])
        self.assertEqual([(variant.name, variant.context) for variant in variants], [("clusters of 2", "2"), ("clusters of 4", "4")])
        self.assertNotIn(CLUSTERS, os.environ)
        with clusters(4):
            open_variants(lambda: None, ["2"])
            self.assertEqual(os.environ[CLUSTERS], "4")

    def test_products_of_16_bits_are_concerned(self):
        variant = Variant("clusters of 2", None)
        self.assertTrue(variant.applies(smora(8192)))
        self.assertTrue(variant.applies(CoreMerge(8192, 4096, 4096, 64, 8, "f16")))
        for case in (smora(8192, dtype="f32"), smora(8192, dtype="tf32"), smora(8192, dtype="bf16 over f32"), gate(64, 64, 8)):
            self.assertFalse(variant.applies(case))

    def test_bad_numbers_are_refused(self):
        import compare
        for arguments in (["--check", "--clusters", "3"], ["--check", "--variants", "2,8"]):
            said = io.StringIO()
            with self.subTest(arguments=arguments), contextlib.redirect_stderr(said), self.assertRaises(SystemExit) as stopped:
                compare.main(arguments)
            self.assertEqual(stopped.exception.code, 2)
            self.assertIn(arguments[1], said.getvalue())


@unittest.skipUnless(support.cpu_library(), "the library has not been built")
class Bits(unittest.TestCase):
    def setUp(self):
        library = Library(support.cpu_library(), support.HEADER)
        self.contexts = [Context(library, "CPU", thread_count=1) for _ in range(2)]
        for context in self.contexts:
            self.addCleanup(context.close)

    def run_once(self):
        call = Call(self.contexts[0], smora(3, 8, 8, r=4, k=2, dtype="f32"), HostMemory(1))
        call.forward()
        call.backward()
        return call

    def test_the_same_call_in_another_context_writes_the_same(self):
        call = self.run_once()
        compare_bits(call, call.on(self.contexts[1]), True)

    def test_a_difference_is_found(self):
        for name, backward in (("y", False), ("dA", True)):
            with self.subTest(tensor=name):
                call = self.run_once()
                tensor = call.tensors[name]
                tensor.assign([value + 1 for value in tensor.values()])
                with self.assertRaisesRegex(ValueError, f"^{name} differs"):
                    compare_bits(call, call.on(self.contexts[1]), backward)


if __name__ == "__main__":
    unittest.main()
