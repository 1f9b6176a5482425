"""The small autodiff: every operation's gradient against finite differences."""

import random
import unittest

import support  # noqa: F401
from moek.autodiff import Matrix, gradient

INDEX = [[2, 0], [1, 3], [3, 2]]

# Each takes matrices of 3 x 4, 4 x 2, 1 x 4 and 3 x 1 with positive elements.
OPERATIONS = {
    "add a row": lambda a, b, row, column: a + row,
    "subtract a column": lambda a, b, row, column: a - column,
    "multiply by a row": lambda a, b, row, column: a * row,
    "divide by a column": lambda a, b, row, column: a / column,
    "divide a row": lambda a, b, row, column: row / a,
    "multiply by a number": lambda a, b, row, column: a * 2.5 + 1.0,
    "product": lambda a, b, row, column: a @ b,
    "transposed product": lambda a, b, row, column: b.t() @ a.t(),
    "sigmoid": lambda a, b, row, column: a.sigmoid(),
    "exp, log, sqrt, abs": lambda a, b, row, column: (a.exp() + a.log()).abs().sqrt(),
    "sum": lambda a, b, row, column: a.sum(-1, keepdim=True) * column,
    "softmax": lambda a, b, row, column: a.softmax(-1),
    "logsumexp": lambda a, b, row, column: a.logsumexp(-1, keepdim=True),
    "gather": lambda a, b, row, column: a.gather(-1, INDEX),
    "scatter": lambda a, b, row, column: (a * 2.0).scatter(-1, INDEX, a.narrow(-1, 1, 2)),
    "narrow": lambda a, b, row, column: a.narrow(0, 1, 2).narrow(-1, 1, 3),
    "repeat_interleave": lambda a, b, row, column: a.repeat_interleave(3, -1),
    "used twice": lambda a, b, row, column: a * a + a,
}


class Gradients(unittest.TestCase):
    def test_every_operation_against_finite_differences(self):
        generator = random.Random(7)
        for name, operation in OPERATIONS.items():
            inputs = [Matrix(r, c, [generator.uniform(0.5, 1.5) for _ in range(r * c)])
                      for r, c in ((3, 4), (4, 2), (1, 4), (3, 1))]
            result = operation(*inputs)
            seed = Matrix(result.rows, result.columns, [generator.uniform(-1, 1) for _ in result.data])
            gradients = gradient([result], [seed], inputs)
            for which, matrix in enumerate(inputs):
                for i in range(len(matrix.data)):
                    with self.subTest(operation=name, input=which, element=i):
                        known = gradients[which].data[i] if gradients[which] else 0.0
                        self.assertAlmostEqual(known, self._slope(operation, inputs, which, i, seed), delta=1e-6)

    def _slope(self, operation, inputs, which, i, seed):
        def value(step):
            moved = [Matrix(m.rows, m.columns, list(m.data)) for m in inputs]
            moved[which].data[i] += step
            return sum(y * s for y, s in zip(operation(*moved).data, seed.data))
        return (value(1e-5) - value(-1e-5)) / 2e-5

    def test_a_result_that_depends_on_nothing_has_no_gradient(self):
        a, b = Matrix.filled(1, 1, 2.0), Matrix.filled(1, 1, 3.0)
        self.assertIsNone(gradient([a * a], [Matrix.filled(1, 1, 1.0)], [b])[0])

    def test_an_intermediate_result_has_a_gradient(self):
        a = Matrix.filled(1, 1, 2.0)
        b = a * 3.0
        self.assertEqual(gradient([b * b], [Matrix.filled(1, 1, 1.0)], [a, b])[1].data, [12.0])


if __name__ == "__main__":
    unittest.main()
