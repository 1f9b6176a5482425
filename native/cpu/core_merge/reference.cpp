#include "cpu/core_merge/reference.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace moek::reference {
namespace {

using Vector = std::vector<double>;

size_t at(int64_t row, int64_t columns, int64_t column) {
    return static_cast<size_t>(row * columns + column);
}

size_t at(int64_t i) {
    return static_cast<size_t>(i);
}

Vector row_of(const Vector& matrix, int64_t row, int64_t columns) {
    const auto begin = matrix.begin() + row * columns;
    return Vector(begin, begin + columns);
}

double mask_at(const Vector& mask, size_t i) {
    return mask.empty() ? 1.0 : mask[i];
}

Vector masked_row(const Vector& matrix, const Vector& mask, int64_t row, int64_t columns) {
    Vector result;
    for (int64_t c = 0; c < columns; ++c) {
        const size_t i = at(row, columns, c);
        result.push_back(matrix[i] * mask_at(mask, i));
    }
    return result;
}

/// matrix [rows, columns] times vector [columns].
Vector multiply(const Vector& matrix, int64_t rows, const Vector& vector) {
    const auto columns = static_cast<int64_t>(vector.size());
    Vector result(at(rows), 0.0);
    for (int64_t i = 0; i < rows; ++i) {
        for (int64_t c = 0; c < columns; ++c) result[at(i)] += matrix[at(i, columns, c)] * vector[at(c)];
    }
    return result;
}

/// vector [rows] times matrix [rows, columns].
Vector multiply_left(const Vector& vector, const Vector& matrix, int64_t columns) {
    Vector result(at(columns), 0.0);
    for (size_t i = 0; i < vector.size(); ++i) {
        for (int64_t c = 0; c < columns; ++c) {
            result[at(c)] += vector[i] * matrix[at(static_cast<int64_t>(i), columns, c)];
        }
    }
    return result;
}

/// matrix += column row^T.
void add_outer(Vector& matrix, const Vector& column, const Vector& row) {
    for (size_t i = 0; i < column.size(); ++i) {
        for (size_t j = 0; j < row.size(); ++j) matrix[i * row.size() + j] += column[i] * row[j];
    }
}

/// softmax(z / temperature); a NaN counts as -inf, and a row of nothing else has no weight at all.
Vector softmax(Vector z, double temperature) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    for (double& value : z) value = std::isnan(value) ? -kInfinity : value / temperature;
    const double largest = *std::max_element(z.begin(), z.end());
    if (largest == -kInfinity) return Vector(z.size(), 0.0);
    double sum = 0;
    for (double& value : z) {
        // exp(inf - inf) would be NaN; the limit shares the weight among the infinite scores.
        value = value == largest ? 1.0 : std::exp(value - largest);
        sum += value;
    }
    for (double& value : z) value /= sum;
    return z;
}

/// What the INPUT router reads of one token.
Vector router_row(const CoreMerge& call, int64_t t) {
    return row_of(call.router_input.empty() ? call.x : call.router_input, t, call.d_in);
}

Vector core_of(const CoreMerge& call, int64_t e) {
    return row_of(call.C, e, call.r * call.r);
}

/// M = sum_e p_e C_e of one token.
Vector merged_core(const CoreMerge& call, const Vector& p) {
    Vector merged(at(call.r * call.r), 0.0);
    for (int64_t e = 0; e < call.E; ++e) {
        const Vector core = core_of(call, e);
        for (size_t i = 0; i < core.size(); ++i) merged[i] += p[at(e)] * core[i];
    }
    return merged;
}

/// A token without weights adds nothing to any result, whatever its x and u are: not even 0 times a NaN.
bool weighs_nothing(const Vector& p) {
    return std::all_of(p.begin(), p.end(), [](double weight) { return weight == 0; });
}

}  // namespace

CoreMergeOutput core_merge_forward(const CoreMerge& call) {
    CoreMergeOutput out;
    for (int64_t t = 0; t < call.T; ++t) {
        const Vector u = multiply(call.A, call.r, masked_row(call.x, call.dropout_mask, t, call.d_in));
        Vector p;
        switch (call.router) {
            case MOEK_CORE_ROUTER_CORE:
                p = softmax(multiply(call.W_g, call.E, u), call.temperature);
                break;
            case MOEK_CORE_ROUTER_INPUT:
                p = softmax(multiply(call.W_g, call.E, router_row(call, t)), call.temperature);
                break;
            case MOEK_CORE_ROUTER_CALLER:
                p = row_of(call.p, t, call.E);
                break;
        }
        const Vector v = weighs_nothing(p) ? Vector(at(call.r), 0.0) : multiply_left(u, merged_core(call, p), call.r);
        out.u.insert(out.u.end(), u.begin(), u.end());
        out.p.insert(out.p.end(), p.begin(), p.end());
        out.v.insert(out.v.end(), v.begin(), v.end());
        for (double y : multiply(call.B, call.d_out, masked_row(out.v, call.dropout_core_mask, t, call.r))) {
            out.y.push_back(call.scale * y);
        }
    }
    return out;
}

CoreMergeGradient core_merge_backward(const CoreMerge& call, const CoreMergeOutput& forward, const Vector& dy) {
    CoreMergeGradient gradient;
    gradient.dA.assign(call.A.size(), 0.0);
    gradient.dB.assign(call.B.size(), 0.0);
    gradient.dC.assign(call.C.size(), 0.0);
    gradient.dW_g.assign(call.W_g.size(), 0.0);
    for (int64_t t = 0; t < call.T; ++t) {
        const Vector x = masked_row(call.x, call.dropout_mask, t, call.d_in);
        const Vector u = row_of(forward.u, t, call.r);
        const Vector p = row_of(forward.p, t, call.E);

        Vector scaled_dy = row_of(dy, t, call.d_out);
        for (double& value : scaled_dy) value *= call.scale;
        add_outer(gradient.dB, scaled_dy, masked_row(forward.v, call.dropout_core_mask, t, call.r));
        Vector dv = multiply_left(scaled_dy, call.B, call.r);
        for (int64_t j = 0; j < call.r; ++j) dv[at(j)] *= mask_at(call.dropout_core_mask, at(t, call.r, j));

        // v = u^T M, so dM = u dv^T and du = M dv; dM then goes to every core and every weight.
        Vector dM(at(call.r * call.r), 0.0);
        add_outer(dM, u, dv);
        const bool routed = call.router != MOEK_CORE_ROUTER_CALLER;
        const bool silent = weighs_nothing(p);
        Vector dp(at(call.E), 0.0);
        for (int64_t e = 0; e < call.E && !(routed && silent); ++e) {
            const Vector core = core_of(call, e);
            for (size_t i = 0; i < core.size(); ++i) dp[at(e)] += core[i] * dM[i];
        }
        gradient.dp.insert(gradient.dp.end(), dp.begin(), dp.end());
        if (silent) {
            gradient.dx.insert(gradient.dx.end(), at(call.d_in), 0.0);
            if (!call.router_input.empty()) {
                gradient.drouter_input.insert(gradient.drouter_input.end(), at(call.d_in), 0.0);
            }
            continue;
        }

        Vector du = multiply(merged_core(call, p), call.r, dv);
        for (int64_t e = 0; e < call.E; ++e) {
            for (size_t i = 0; i < dM.size(); ++i) {
                gradient.dC[at(e, call.r * call.r, static_cast<int64_t>(i))] += p[at(e)] * dM[i];
            }
        }

        Vector dx_undropped(at(call.d_in), 0.0);
        if (routed) {
            double projection = 0;
            for (int64_t e = 0; e < call.E; ++e) projection += p[at(e)] * dp[at(e)];
            Vector dlogits(at(call.E), 0.0);
            for (int64_t e = 0; e < call.E; ++e)
                dlogits[at(e)] = p[at(e)] * (dp[at(e)] - projection) / call.temperature;
            if (call.router == MOEK_CORE_ROUTER_CORE) {
                add_outer(gradient.dW_g, dlogits, u);
                const Vector through_router = multiply_left(dlogits, call.W_g, call.r);
                for (int64_t i = 0; i < call.r; ++i) du[at(i)] += through_router[at(i)];
            } else {
                add_outer(gradient.dW_g, dlogits, router_row(call, t));
                const Vector through_router = multiply_left(dlogits, call.W_g, call.d_in);
                if (call.router_input.empty()) {
                    dx_undropped = through_router;
                } else {
                    gradient.drouter_input.insert(gradient.drouter_input.end(), through_router.begin(),
                                                  through_router.end());
                }
            }
        }
        add_outer(gradient.dA, du, x);
        const Vector dx = multiply_left(du, call.A, call.d_in);
        for (int64_t c = 0; c < call.d_in; ++c) {
            gradient.dx.push_back(dx[at(c)] * mask_at(call.dropout_mask, at(t, call.d_in, c)) + dx_undropped[at(c)]);
        }
    }
    return gradient;
}

}  // namespace moek::reference
