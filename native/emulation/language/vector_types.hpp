// CUDA's short vectors, with the alignment that lets them be loaded at once.
#pragma once

#include <cstdint>

#define MOEK_EMULATION_VECTOR2(type, element, alignment) \
    struct alignas(alignment) type {                     \
        element x, y;                                    \
    };                                                   \
    constexpr type make_##type(element x, element y) {   \
        return {x, y};                                   \
    }
#define MOEK_EMULATION_VECTOR3(type, element)                     \
    struct type {                                                 \
        element x, y, z;                                          \
    };                                                            \
    constexpr type make_##type(element x, element y, element z) { \
        return {x, y, z};                                         \
    }
#define MOEK_EMULATION_VECTOR4(type, element, alignment)                     \
    struct alignas(alignment) type {                                         \
        element x, y, z, w;                                                  \
    };                                                                       \
    constexpr type make_##type(element x, element y, element z, element w) { \
        return {x, y, z, w};                                                 \
    }

MOEK_EMULATION_VECTOR2(char2, signed char, 2)
MOEK_EMULATION_VECTOR4(char4, signed char, 4)
MOEK_EMULATION_VECTOR2(uchar2, unsigned char, 2)
MOEK_EMULATION_VECTOR4(uchar4, unsigned char, 4)
MOEK_EMULATION_VECTOR2(short2, short, 4)
MOEK_EMULATION_VECTOR4(short4, short, 8)
MOEK_EMULATION_VECTOR2(ushort2, unsigned short, 4)
MOEK_EMULATION_VECTOR4(ushort4, unsigned short, 8)
MOEK_EMULATION_VECTOR2(int2, int, 8)
MOEK_EMULATION_VECTOR3(int3, int)
MOEK_EMULATION_VECTOR4(int4, int, 16)
MOEK_EMULATION_VECTOR2(uint2, unsigned, 8)
MOEK_EMULATION_VECTOR3(uint3, unsigned)
MOEK_EMULATION_VECTOR4(uint4, unsigned, 16)
MOEK_EMULATION_VECTOR2(longlong2, long long, 16)
MOEK_EMULATION_VECTOR2(ulonglong2, unsigned long long, 16)
MOEK_EMULATION_VECTOR2(float2, float, 8)
MOEK_EMULATION_VECTOR3(float3, float)
MOEK_EMULATION_VECTOR4(float4, float, 16)
MOEK_EMULATION_VECTOR2(double2, double, 16)

#undef MOEK_EMULATION_VECTOR2
#undef MOEK_EMULATION_VECTOR3
#undef MOEK_EMULATION_VECTOR4

struct dim3 {
    constexpr dim3(unsigned width = 1, unsigned height = 1, unsigned depth = 1) : x(width), y(height), z(depth) {}
    constexpr dim3(uint3 value) : x(value.x), y(value.y), z(value.z) {}
    constexpr operator uint3() const { return {x, y, z}; }

    unsigned x, y, z;
};
