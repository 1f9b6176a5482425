#include "cpu/gate/gate.hpp"

namespace moek::cpu {
namespace {

template <class Real>
void update(const moek_gate_bias_update_args& args) {
    const int32_t* counts = static_cast<const int32_t*>(args.counts);
    Real* bias = static_cast<Real*>(args.bias);
    double target = args.target;
    if (args.target_mode == MOEK_BIAS_TARGET_MEAN) {
        int64_t sum = 0;  // exact: E <= 4096 counts of 32 bits
        for (int64_t e = 0; e < args.E; ++e) sum += counts[e];
        target = static_cast<double>(sum) / static_cast<double>(args.E);
    }
    for (int64_t e = 0; e < args.E; ++e) {
        const double distance = target - static_cast<double>(counts[e]);
        const double sign = distance > 0 ? 1 : (distance < 0 ? -1 : 0);
        bias[e] = static_cast<Real>(static_cast<double>(bias[e]) + args.rate * sign);
    }
}

}  // namespace

moek_status gate_bias_update(void*, const moek_gate_bias_update_args* args, void*) {
    if (args->bias_dtype == MOEK_DTYPE_F64) {
        update<double>(*args);
    } else {
        update<float>(*args);
    }
    return MOEK_STATUS_CODE_OK;
}

}  // namespace moek::cpu
