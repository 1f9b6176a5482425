// Whether the emulation of cuda/common's instructions agrees with a GPU.
//
//   moekernels_conformance write FILE     runs every case on this program's device and writes the results
//   moekernels_conformance compare FILE   runs them and compares with a file that was written elsewhere
//
// Built twice from the same sources: by nvcc for a GPU (moekernels_conformance_gpu), and for the emulation. The file that a GPU
// wrote belongs into this folder as golden.txt; with it, CTest compares the emulation with that GPU on every machine.
#include <cuda_runtime.h>

#include <cstring>
#include <fstream>
#include <iostream>

#include "tests/conformance/cases.hpp"

namespace {

std::string device_text() {
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, 0) != cudaSuccess) return "";
    return std::string(properties.name) + ", compute capability " + std::to_string(properties.major) + "." +
           std::to_string(properties.minor);
}

moek::conformance::Record run_all() {
    moek::conformance::Record record;
    record_conversions(record);
    record_copies(record);
    record_tensor_copies(record);
    record_matrices(record);
    record_products(record);
    record_warp_functions(record);
    record_arithmetic(record);
    return record;
}

}  // namespace

int main(int count, char** arguments) {
    const bool writes = count == 3 && std::strcmp(arguments[1], "write") == 0;
    if (count != 3 || (!writes && std::strcmp(arguments[1], "compare") != 0)) {
        std::cerr << "usage: " << arguments[0] << " write|compare FILE\n";
        return 2;
    }
    const std::string device = device_text();
    if (device.empty()) {
        std::cerr << "there is no CUDA device\n";
        return 2;
    }
    try {
        const moek::conformance::Record record = run_all();
        if (writes) {
            std::ofstream file(arguments[2]);
            record.write(file, device);
            if (file.flush()) return 0;
            std::cerr << arguments[2] << " cannot be written\n";
            return 2;
        }
        std::ifstream file(arguments[2]);
        if (!file) {
            std::cerr << arguments[2] << " cannot be read\n";
            return 2;
        }
        const int failures = record.compare(file, std::cout);
        std::cout << device << ": " << failures << " cases differ from " << arguments[2] << "\n";
        return failures == 0 ? 0 : 1;
    } catch (const std::exception& error) {
        std::cerr << error.what() << "\n";
        return 2;
    }
}
