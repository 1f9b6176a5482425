"""Matrices of doubles that remember how they were made, in plain Python: what a small check needs where PyTorch is missing.

The methods have the names and the meaning of PyTorch's, so that the formulas of the ops (formulas.py) are written once and
run on both. Everything is a matrix; a row or a column may stand for a whole matrix in +, -, * and /.
"""

import math


class Matrix:
    """rows x columns doubles, row-major."""

    def __init__(self, rows, columns, data, parents=()):
        assert len(data) == rows * columns
        self.rows, self.columns = rows, columns
        self.data = data
        self._parents = parents  # (matrix, function from this one's gradient to that one's)

    @staticmethod
    def filled(rows, columns, value):
        return Matrix(rows, columns, [value] * (rows * columns))

    # --- element by element ------------------------------------------------------------------------------------------

    def _unary(self, function, slope):
        data = [function(a) for a in self.data]
        return Matrix(self.rows, self.columns, data,
                      [(self, lambda g: [gi * slope(a, y) for gi, a, y in zip(g, self.data, data)])])

    def sigmoid(self):
        return self._unary(lambda a: 1 / (1 + math.exp(-a)), lambda a, y: y * (1 - y))

    def exp(self):
        return self._unary(math.exp, lambda a, y: y)

    def log(self):
        return self._unary(math.log, lambda a, y: 1 / a)

    def sqrt(self):
        return self._unary(math.sqrt, lambda a, y: 0.5 / y)

    def abs(self):
        return self._unary(abs, lambda a, y: math.copysign(1, a))

    def _binary(self, other, function, slope_self, slope_other):
        if not isinstance(other, Matrix):
            other = Matrix(1, 1, [float(other)])
        rows, columns = max(self.rows, other.rows), max(self.columns, other.columns)
        at_self, at_other = _places(self, rows, columns), _places(other, rows, columns)
        pairs = [(self.data[i], other.data[j]) for i, j in zip(at_self, at_other)]

        def backward(into, places, slope):
            def gradient(g):
                result = [0.0] * len(into.data)
                for gi, place, (a, b) in zip(g, places, pairs):
                    result[place] += gi * slope(a, b)
                return result
            return gradient

        return Matrix(rows, columns, [function(a, b) for a, b in pairs],
                      [(self, backward(self, at_self, slope_self)), (other, backward(other, at_other, slope_other))])

    def __add__(self, other):
        return self._binary(other, lambda a, b: a + b, lambda a, b: 1.0, lambda a, b: 1.0)

    def __sub__(self, other):
        return self._binary(other, lambda a, b: a - b, lambda a, b: 1.0, lambda a, b: -1.0)

    def __mul__(self, other):
        return self._binary(other, lambda a, b: a * b, lambda a, b: b, lambda a, b: a)

    def __truediv__(self, other):
        return self._binary(other, lambda a, b: a / b, lambda a, b: 1 / b, lambda a, b: -a / (b * b))

    # --- products ----------------------------------------------------------------------------------------------------

    def __matmul__(self, other):
        assert self.columns == other.rows, (self.columns, other.rows)
        n, m, k = self.rows, other.columns, self.columns
        return Matrix(n, m, _product(self.data, other.data, n, k, m),
                      [(self, lambda g: _product(g, _transposed(other.data, k, m), n, m, k)),
                       (other, lambda g: _product(_transposed(self.data, n, k), g, k, n, m))])

    def t(self):
        return Matrix(self.columns, self.rows, _transposed(self.data, self.rows, self.columns),
                      [(self, lambda g: _transposed(g, self.columns, self.rows))])

    # --- along a row -------------------------------------------------------------------------------------------------

    def sum(self, dim, keepdim):
        assert dim == -1 and keepdim
        c = self.columns
        return Matrix(self.rows, 1, [math.fsum(self._row(i)) for i in range(self.rows)],
                      [(self, lambda g: [g[i // c] for i in range(len(self.data))])])

    def amax(self, dim, keepdim):
        assert dim == -1 and keepdim
        return Matrix(self.rows, 1, [max(self._row(i)) for i in range(self.rows)])  # for comparisons: no gradient

    def amin(self, dim, keepdim):
        assert dim == -1 and keepdim
        return Matrix(self.rows, 1, [min(self._row(i)) for i in range(self.rows)])  # for comparisons: no gradient

    def softmax(self, dim):
        e = (self - self.amax(dim, keepdim=True)).exp()
        return e / e.sum(dim, keepdim=True)

    def logsumexp(self, dim, keepdim):
        largest = self.amax(dim, keepdim=True)
        return (self - largest).exp().sum(dim, keepdim=keepdim).log() + largest

    def repeat_interleave(self, repeats, dim):
        assert dim == -1
        return self.gather(-1, [[i // repeats for i in range(self.columns * repeats)]] * self.rows)

    # --- parts -------------------------------------------------------------------------------------------------------

    def _pick(self, rows, columns, places):
        def gradient(g):
            result = [0.0] * len(self.data)
            for gi, place in zip(g, places):
                result[place] += gi
            return result
        return Matrix(rows, columns, [self.data[place] for place in places], [(self, gradient)])

    def gather(self, dim, index):
        """index: a list of rows of column numbers."""
        assert dim == -1
        return self._pick(self.rows, len(index[0]), [i * self.columns + j for i, row in enumerate(index) for j in row])

    def narrow(self, dim, start, length):
        if dim == 0:
            return self._pick(length, self.columns, range(start * self.columns, (start + length) * self.columns))
        return self._pick(self.rows, length, [i * self.columns + j for i in range(self.rows) for j in range(start, start + length)])

    def scatter(self, dim, index, source):
        """A copy with source's elements at index's columns."""
        assert dim == -1
        places = [i * self.columns + j for i, row in enumerate(index) for j in row]
        data = list(self.data)
        for place, value in zip(places, source.data):
            data[place] = value

        def gradient_to_self(g):
            result = list(g)
            for place in places:
                result[place] = 0.0
            return result

        return Matrix(self.rows, self.columns, data,
                      [(self, gradient_to_self), (source, lambda g: [g[place] for place in places])])

    def _row(self, i):
        return self.data[i * self.columns:(i + 1) * self.columns]


def gradient(outputs, seeds, inputs):
    """The gradients of sum(outputs * seeds) to the inputs; None for one that no output depends on."""
    order, seen = [], set()
    for output in outputs:
        _visit(output, seen, order)
    gradients = {}
    for output, seed in zip(outputs, seeds):
        _add(gradients, output, seed.data)
    for matrix in reversed(order):
        if id(matrix) in gradients:
            for parent, backward in matrix._parents:
                _add(gradients, parent, backward(gradients[id(matrix)]))
    return [Matrix(m.rows, m.columns, gradients[id(m)]) if id(m) in gradients else None for m in inputs]


def _visit(matrix, seen, order):
    if id(matrix) not in seen:
        seen.add(id(matrix))
        for parent, _ in matrix._parents:
            _visit(parent, seen, order)
        order.append(matrix)


def _add(gradients, matrix, values):
    known = gradients.get(id(matrix))
    gradients[id(matrix)] = list(values) if known is None else [a + b for a, b in zip(known, values)]


def _places(matrix, rows, columns):
    """For each element of a rows x columns result, where its operand lies."""
    assert matrix.rows in (1, rows) and matrix.columns in (1, columns)
    down, right = (matrix.columns if matrix.rows > 1 else 0), (1 if matrix.columns > 1 else 0)
    return [i * down + j * right for i in range(rows) for j in range(columns)]


def _product(a, b, n, k, m):
    columns = [b[j::m] for j in range(m)]
    rows = [a[i * k:(i + 1) * k] for i in range(n)]
    return [sum(x * y for x, y in zip(row, column)) for row in rows for column in columns]


def _transposed(data, rows, columns):
    return [data[i * columns + j] for j in range(columns) for i in range(rows)]
