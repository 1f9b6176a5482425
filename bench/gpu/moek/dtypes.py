"""The element types of the ABI, by their short names."""

import array
import struct

# Name: bytes of an element, distance from 1 to the next larger value.
SIZES = {"f32": 4, "bf16": 2, "f16": 2, "f64": 8, "i32": 4}
EPSILONS = {"f32": 2.0**-23, "bf16": 2.0**-7, "f16": 2.0**-10, "f64": 2.0**-52, "tf32": 2.0**-10}


def accumulator(dtype):
    """The type of what is saved for backward."""
    return "f64" if dtype == "f64" else "f32"


def pack(dtype, values):
    """Numbers as the bytes of a type, rounded to nearest even."""
    if dtype == "f32":
        return array.array("f", values).tobytes()
    if dtype == "f64":
        return array.array("d", values).tobytes()
    if dtype == "i32":
        return array.array("i", values).tobytes()
    if dtype == "f16":
        return struct.pack(f"<{len(values)}e", *values)
    return array.array("H", (_bf16_bits(bits) for bits in array.array("I", array.array("f", values).tobytes()))).tobytes()


def unpack(dtype, data):
    """The bytes of a type as numbers."""
    if dtype == "f32":
        return array.array("f", data).tolist()
    if dtype == "f64":
        return array.array("d", data).tolist()
    if dtype == "i32":
        return array.array("i", data).tolist()
    if dtype == "f16":
        return list(struct.unpack(f"<{len(data) // 2}e", data))
    widened = array.array("I", (bits << 16 for bits in array.array("H", data)))
    return array.array("f", widened.tobytes()).tolist()


def _bf16_bits(f32_bits):
    if f32_bits & 0x7FFFFFFF > 0x7F800000:
        return (f32_bits >> 16) | 0x40  # stays a NaN
    return (f32_bits + 0x7FFF + ((f32_bits >> 16) & 1)) >> 16
