// hlwq/float16.hpp — half and bfloat16: two-byte storage with constexpr conversions
//
// Storage only: arithmetic happens in float. Conversion to 16 bits rounds to nearest, ties to even; values beyond the
// range become infinite; a NaN stays a NaN (quiet, sign and upper payload kept). Conversion to float is exact.
//
// Example
//   hlwq::half norm(3.14159f);
//   float back = norm;
#pragma once

#include "hlwq/config.hpp"

#include <bit>
#include <cstdint>

namespace hlwq {

/// IEEE 754 binary16: 1 sign, 5 exponent, 10 fraction bits.
struct half {
    std::uint16_t bits = 0;

    half() = default;
    HLWQ_HOST_DEVICE HLWQ_INLINE constexpr explicit half(float value) noexcept : bits(from_float(value)) {}
    HLWQ_HOST_DEVICE HLWQ_INLINE constexpr operator float() const noexcept { return to_float(bits); }

    HLWQ_HOST_DEVICE HLWQ_INLINE static constexpr half from_bits(std::uint16_t raw) noexcept {
        half value;
        value.bits = raw;
        return value;
    }

    /// Nearest half, ties to even, as its bit pattern.
    HLWQ_HOST_DEVICE HLWQ_INLINE static constexpr std::uint16_t from_float(float value) noexcept {
        const auto word = std::bit_cast<std::uint32_t>(value);
        const auto sign = static_cast<std::uint16_t>((word >> 16) & 0x8000u);
        const std::uint32_t magnitude = word & 0x7fffffffu;
        if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
        if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // 65520 and above
        if (magnitude >= 0x38800000u) {                                                   // normal: rebias, round
            const std::uint32_t rebased = magnitude - 0x38000000u;
            return static_cast<std::uint16_t>(sign | ((rebased + 0xfffu + ((rebased >> 13) & 1u)) >> 13));
        }
        if (magnitude < 0x33000000u) return sign;              // below half of the smallest subnormal
        const std::uint32_t shift = 126u - (magnitude >> 23);  // 14..24: fraction bits that fall away
        const std::uint32_t fraction = (magnitude & 0x7fffffu) | 0x800000u;
        const std::uint32_t kept = fraction >> shift;
        const std::uint32_t rest = fraction & ((1u << shift) - 1u);
        const std::uint32_t middle = 1u << (shift - 1u);
        return static_cast<std::uint16_t>(sign |
                                          (kept + ((rest > middle || (rest == middle && (kept & 1u))) ? 1u : 0u)));
    }

    /// The float with the same value.
    HLWQ_HOST_DEVICE HLWQ_INLINE static constexpr float to_float(std::uint16_t raw) noexcept {
        const std::uint32_t sign = static_cast<std::uint32_t>(raw & 0x8000u) << 16;
        const std::uint32_t exponent = (raw >> 10) & 0x1fu;
        const std::uint32_t fraction = raw & 0x3ffu;
        if (exponent == 0x1fu) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));
        if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (fraction << 13));
        const float magnitude = static_cast<float>(fraction) * 0x1p-24f;  // zero and subnormals
        return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
    }
};

/// The upper half of a float: 1 sign, 8 exponent, 7 fraction bits.
struct bfloat16 {
    std::uint16_t bits = 0;

    bfloat16() = default;
    HLWQ_HOST_DEVICE HLWQ_INLINE constexpr explicit bfloat16(float value) noexcept : bits(from_float(value)) {}
    HLWQ_HOST_DEVICE HLWQ_INLINE constexpr operator float() const noexcept { return to_float(bits); }

    HLWQ_HOST_DEVICE HLWQ_INLINE static constexpr bfloat16 from_bits(std::uint16_t raw) noexcept {
        bfloat16 value;
        value.bits = raw;
        return value;
    }

    /// Nearest bfloat16, ties to even, as its bit pattern.
    HLWQ_HOST_DEVICE HLWQ_INLINE static constexpr std::uint16_t from_float(float value) noexcept {
        const auto word = std::bit_cast<std::uint32_t>(value);
        if ((word & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((word >> 16) | 0x40u);
        return static_cast<std::uint16_t>((word + 0x7fffu + ((word >> 16) & 1u)) >> 16);
    }

    /// The float with the same value.
    HLWQ_HOST_DEVICE HLWQ_INLINE static constexpr float to_float(std::uint16_t raw) noexcept {
        return std::bit_cast<float>(static_cast<std::uint32_t>(raw) << 16);
    }
};

static_assert(sizeof(half) == 2 && sizeof(bfloat16) == 2);

}  // namespace hlwq
