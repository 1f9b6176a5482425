// A small, fast generator for schedules (xorshift64*).
#pragma once

#include <cstdint>

namespace moek::emulation {

class ScheduleRandom {
  public:
    void seed(uint64_t value) {
        // Spreads neighbouring seeds (the finaliser of splitmix64); the state must not be 0.
        value += 0x9E3779B97F4A7C15u;
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9u;
        value = (value ^ (value >> 27)) * 0x94D049BB133111EBu;
        state_ = (value ^ (value >> 31)) | 1u;
    }
    uint32_t next() {
        state_ ^= state_ >> 12;
        state_ ^= state_ << 25;
        state_ ^= state_ >> 27;
        return static_cast<uint32_t>(state_ * 0x2545F4914F6CDD1Du >> 32);
    }
    // 0 .. bound - 1.
    uint32_t below(uint32_t bound) { return static_cast<uint32_t>(static_cast<uint64_t>(next()) * bound >> 32); }

  private:
    uint64_t state_ = 1;
};

}  // namespace moek::emulation
