"""Header, structs and element types."""

import math
import tempfile
import unittest

import support
from moek import dtypes
from moek.header import Header
from moek.library import Context, Library, MoekError


class ReadingTheHeader(unittest.TestCase):
    def test_constants_and_fields(self):
        header = Header(support.HEADER)
        self.assertEqual(header["DTYPE_BF16"], 1)
        self.assertEqual(header["MAX_EXPERTS"], 4096)
        fields = dict((name, (kind, count)) for name, kind, count in header.structs["moek_device_info"])
        self.assertEqual(fields["name"], ("char", header["NAME_SIZE"]))
        self.assertEqual(dict((f[0], f[1]) for f in header.structs["moek_gate_args"])["logits"], "pointer")
        options = dict((f[0], f[1]) for f in header.structs["moek_context_options"])
        self.assertEqual((options["log"], options["parallel"]), ("pointer", "pointer"))

    def test_a_field_that_cannot_be_read(self):
        with tempfile.NamedTemporaryFile("w", suffix=".h") as file:
            file.write("typedef struct moek_odd {\n    int32_t a, b;\n} moek_odd;\n")
            file.flush()
            with self.assertRaisesRegex(ValueError, "moek_odd: cannot read the field 'int32_t a, b'"):
                Header(file.name)


@unittest.skipUnless(support.cpu_library(), "the library has not been built")
class CallingTheLibrary(unittest.TestCase):
    def test_every_struct_lies_as_the_library_says(self):
        self.assertEqual(set(Library(support.cpu_library(), support.HEADER).structs), set(Header(support.HEADER).structs))

    def test_a_header_of_another_layout_is_refused(self):
        text = support.HEADER.read_text()
        with tempfile.NamedTemporaryFile("w", suffix=".h") as file:
            file.write(text.replace("int64_t E;              /**< Experts, 1..", "int32_t E;              /**< Experts, 1.."))
            file.flush()
            with self.assertRaisesRegex(ValueError, r"moek_gate_args\.E is at \d+ with 8 bytes in the library, but at \d+ with 4"):
                Library(support.cpu_library(), file.name)

    def test_an_error_tells_what_the_library_says(self):
        library = Library(support.cpu_library(), support.HEADER)
        with self.assertRaisesRegex(MoekError, "moek_context_create: invalid argument: .*thread_count"):
            Context(library, "CPU", thread_count=-1)


class ElementTypes(unittest.TestCase):
    def test_rounding_to_bf16_is_to_nearest_even(self):
        halfway = 1 + 2.0**-8  # between 1 and 1 + 2^-7
        self.assertEqual(dtypes.unpack("bf16", dtypes.pack("bf16", [halfway, 1 + 3 * 2.0**-8, -halfway - 2.0**-12])),
                         [1.0, 1 + 2.0**-6, -1 - 2.0**-7])

    def test_special_values(self):
        for dtype in ("f32", "bf16", "f16", "f64"):
            got = dtypes.unpack(dtype, dtypes.pack(dtype, [math.nan, math.inf, -0.0]))
            self.assertTrue(math.isnan(got[0]))
            self.assertEqual(got[1], math.inf)
            self.assertEqual(math.copysign(1, got[2]), -1)


if __name__ == "__main__":
    unittest.main()
