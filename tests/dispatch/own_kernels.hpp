// What a program's own file that is compiled once for each instruction set exports.
#pragma once

#include <cstddef>

struct own_kernels {
    const char* isa;
    int bytes;  // of a vector
    float (*dot)(const float* a, const float* b, std::size_t count) noexcept;
};
