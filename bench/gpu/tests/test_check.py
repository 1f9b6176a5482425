"""The check finds what it is for: results, ids, gaps and bits that are wrong."""

import dataclasses
import unittest

import support
from moek.cases import TINY, check_cases, core_merge_cases, gate_cases, rank_lora_cases
from moek.check import check
from moek.core_merge import CoreMerge
from moek.gate import Gate
from moek.host_memory import HostMemory
from moek.library import Context, Library
from moek.rank_lora import RankLora

TENSORS = {
    "gate": ("weights", "lse", "counts", "dlogits"),
    "rank_lora": ("y", "gates", "u", "gate_logits", "counts", "dx", "dA", "dB", "dW_r", "dgates"),
    "core_merge": ("y", "u", "p", "v", "dx", "dA", "dB", "dC", "dW_g", "dp"),
}


class Tampering(HostMemory):
    """Changes one tensor after every run, as a wrong kernel would: `change` gets the tensor."""

    def __init__(self, name, change):
        super().__init__(3)
        self._name, self._change = name, change

    def new(self, slot, padding):
        tensor = super().new(slot, padding)
        if slot.name == self._name:
            self._tensor = tensor
        return tensor

    def synchronize(self):
        self._change(self._tensor)


def values(change):
    """A change of a tensor's values."""
    return lambda tensor: tensor.assign(change(tensor.values()))


def spoil_last(tensor):
    last = tensor.values()[-1]
    tensor.assign(tensor.values()[:-1] + [last + 1 if tensor.dtype == "i32" else last * 1.2 + 0.3])


@unittest.skipUnless(support.cpu_library(), "the library has not been built")
class Check(unittest.TestCase):
    def setUp(self):
        self.context = Context(Library(support.cpu_library(), support.HEADER), "CPU", thread_count=1)
        self.addCleanup(self.context.close)

    def tampered(self, case, name, change):
        return check(self.context, case, Tampering(name, change))

    def test_every_case_is_right(self):
        for number, case in enumerate(check_cases([TINY], ["f32", "bf16 over f32"])):
            with self.subTest(case=case):
                result = check(self.context, case, HostMemory(number))
                self.assertTrue(result.fine, result)

    def test_one_wrong_element_of_any_tensor_is_found(self):
        for cases in (gate_cases, rank_lora_cases, core_merge_cases):
            case = next(cases(TINY, "bf16"))
            for name in TENSORS[case.op]:
                with self.subTest(op=case.op, tensor=name):
                    result = self.tampered(case, name, spoil_last)
                    wrong = [deviation.name for deviation in result.deviations if not deviation.fine]
                    self.assertEqual(wrong, [name])

    def test_an_element_that_was_not_written_is_found(self):
        case = next(rank_lora_cases(TINY, "f32"))
        result = self.tampered(case, "dx", values(lambda dx: [float("nan")] + dx[1:]))
        self.assertEqual([deviation.name for deviation in result.deviations if not deviation.fine], ["dx"])

    def test_wrong_ids_are_found(self):
        case = Gate(5, 6, 2)
        for what, change in {
            "a row names an expert twice": lambda ids: [ids[0], ids[0]] + ids[2:],
            "from 0 to 6, expected 0 .. 5": lambda ids: [0, 6] + ids[2:],
            "not best first": lambda ids: [ids[1], ids[0]] + ids[2:],
            "a better one was left out": lambda ids: [ids[0], next(i for i in range(6) if i not in ids[:2])] + ids[2:],
        }.items():
            with self.subTest(what=what):
                result = self.tampered(case, "ids", values(change))
                self.assertTrue(any(what in problem for problem in result.problems), result.problems)

    def test_bits_that_change_from_run_to_run_are_found(self):
        turns = iter(range(100))
        case = next(core_merge_cases(TINY, "f32"))
        result = self.tampered(case, "y", values(lambda y: [y[0] * (1 + 1e-6 * next(turns))] + y[1:]))
        self.assertEqual(result.problems, ["y: two runs differ"])

    def test_a_written_gap_is_found(self):
        case = RankLora(5, 7, 6, 6, 2, padding=3)

        def write_behind_the_first_row(tensor):
            tensor.buffer[6 * 4] = 1

        result = self.tampered(case, "y", write_behind_the_first_row)
        self.assertEqual(result.problems, ["y: memory between its rows was written"])

    def test_rounding_moves_what_cancels_further(self):
        """Between x = [1, 1, 0, ...] and A = [1, -0.999, 0, ...], u keeps a thousandth of its terms."""

        class Cancelling(HostMemory):
            def new(self, slot, padding):
                tensor = super().new(slot, padding)
                if slot.name in ("x", "A"):
                    second = 1 if slot.name == "x" else -0.999
                    tensor.assign([value for _ in range(slot.rows) for value in [1, second] + [0] * (slot.columns - 2)])
                return tensor

        case = CoreMerge(5, 7, 6, 6, 5, dtype="tf32")
        limits = [{deviation.name: deviation.limit for deviation in check(self.context, case, memory).deviations}
                  for memory in (HostMemory(5), Cancelling(5))]
        self.assertLess(limits[0]["u"], 4e-3)
        self.assertGreater(limits[1]["u"], 0.2)
        self.assertLess(limits[1]["u"], 20)
        exact = check(self.context, dataclasses.replace(case, dtype="f32"), Cancelling(5))
        self.assertEqual({deviation.limit for deviation in exact.deviations}, {1e-5})

    def test_a_wrong_option_is_found(self):
        """Arguments reach the struct: a formula with another option does not match."""
        for case, change in (
            (Gate(5, 6, 2), {"temperature": 2.0}),
            (Gate(5, 6, 2), {"weight_scale": 2.0}),
            (RankLora(5, 7, 6, 6, 2), {"scale": 0.7}),
            (RankLora(5, 7, 6, 6, 2), {"normalize": "SUM_TO_ONE"}),
            (CoreMerge(5, 7, 6, 6, 5), {"temperature": 0.5}),
        ):
            with self.subTest(case=case, change=change):
                other = dataclasses.replace(case, **change)

                class Wrong(type(case)):
                    expected = lambda self, *arguments: type(other).expected(other, *arguments)  # noqa: E731

                wrong = Wrong(**{field.name: getattr(case, field.name) for field in dataclasses.fields(case)})
                self.assertFalse(check(self.context, wrong, HostMemory(5)).fine)


if __name__ == "__main__":
    unittest.main()
