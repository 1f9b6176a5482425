// A Fortran sgemm_ out of a library chosen at run time, to compare with.
#pragma once

#include <cstdint>
#include <cstdio>
#include <initializer_list>

#if !defined(_WIN32)
#include <dlfcn.h>
#endif

namespace moek::bench {

class Blas {
  public:
    // Null: no library, available() is false.
    explicit Blas(const char* library) {
        if (library == nullptr) return;
#if defined(_WIN32)
        std::fprintf(stderr, "--blas is not supported on Windows\n");
#else
        void* const handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
        if (handle == nullptr) {
            std::fprintf(stderr, "cannot load %s: %s\n", library, dlerror());
            return;
        }
        for (const char* name : {"sgemm_", "SGEMM"}) {
            if (sgemm_ == nullptr) sgemm_ = reinterpret_cast<Sgemm>(dlsym(handle, name));
        }
        if (sgemm_ == nullptr) std::fprintf(stderr, "%s has no sgemm_\n", library);
#endif
    }

    bool available() const {
        return sgemm_ != nullptr;
    }

    // Row-major C [M, N] = op(A) op(B), where op transposes if asked to; row strides lda, ldb and ldc.
    void multiply(bool transpose_a, bool transpose_b, int64_t M, int64_t N, int64_t K, const float* a, int64_t lda,
                  const float* b, int64_t ldb, float* c, int64_t ldc) const {
        // Column-major BLAS sees the transposed product.
        const int m = static_cast<int>(N), n = static_cast<int>(M), k = static_cast<int>(K);
        const int stride_a = static_cast<int>(lda), stride_b = static_cast<int>(ldb), stride_c = static_cast<int>(ldc);
        const float one = 1, zero = 0;
        sgemm_(transpose_b ? "T" : "N", transpose_a ? "T" : "N", &m, &n, &k, &one, b, &stride_b, a, &stride_a, &zero, c,
               &stride_c);
    }

  private:
    using Sgemm = void (*)(const char*, const char*, const int*, const int*, const int*, const float*, const float*,
                           const int*, const float*, const int*, const float*, float*, const int*);
    Sgemm sgemm_ = nullptr;
};

}  // namespace moek::bench
