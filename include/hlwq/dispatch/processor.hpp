// hlwq/dispatch/processor.hpp — which instruction sets the processor runs, and the choice among them
//
// The names are those of hlwq::isa_name(). A set is runnable where the processor has every instruction that the flags
// of that set (cmake/hlwq_add_dispatch.cmake) allow a compiler to use, and the system saves the registers.
#pragma once

#include "hlwq/config.hpp"
#include "hlwq/error.hpp"

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace hlwq::dispatch {

inline namespace HLWQ_CODE_NAMESPACE {
namespace detail {

#if defined(__x86_64__)

/// What CPUID says, in the registers that it says it with.
struct processor_features {
    unsigned leaf1_ecx = 0, leaf7_ebx = 0, leaf7_ecx = 0, leaf7_1_eax = 0, extended_ecx = 0;
    std::uint64_t saved = 0;  // the register files that the system saves: XCR0

    processor_features() noexcept {
        unsigned a = 0, b = 0, c = 0, d = 0, ebx = 0, ecx = 0;
        if (__get_cpuid(1, &a, &b, &c, &d) != 0) leaf1_ecx = c;
        if (__get_cpuid_count(7, 0, &a, &ebx, &ecx, &d) != 0) {
            leaf7_ebx = ebx;
            leaf7_ecx = ecx;
            if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0) leaf7_1_eax = a;
        }
        if (__get_cpuid(0x80000001u, &a, &b, &c, &d) != 0) extended_ecx = c;
        if (all(leaf1_ecx, {27})) {  // XGETBV is there
            std::uint32_t low = 0, high = 0;
            asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
            saved = (std::uint64_t{high} << 32) | low;
        }
    }

    static constexpr bool all(std::uint64_t word, std::initializer_list<int> bits) noexcept {
        for (const int bit : bits)
            if (((word >> bit) & 1u) == 0) return false;
        return true;
    }
    /// x86-64-v3: SSE3, SSSE3, FMA, CX16, SSE4.1, SSE4.2, MOVBE, POPCNT, AVX, F16C; BMI, AVX2, BMI2; LAHF, LZCNT.
    bool v3() const noexcept {
        return all(leaf1_ecx, {0, 9, 12, 13, 19, 20, 22, 23, 28, 29}) && all(leaf7_ebx, {3, 5, 8}) &&
               all(extended_ecx, {0, 5}) && all(saved, {1, 2});
    }
    /// x86-64-v4: AVX-512 F, DQ, CD, BW, VL.
    bool v4() const noexcept { return v3() && all(leaf7_ebx, {16, 17, 28, 30, 31}) && all(saved, {5, 6, 7}); }
    bool avx_vnni() const noexcept { return all(leaf7_1_eax, {4}); }
    bool avx512_vnni() const noexcept { return all(leaf7_ecx, {11}); }
    bool avx512_vbmi() const noexcept { return all(leaf7_ecx, {1}); }
};

#endif

}  // namespace detail

/// Whether this processor runs code that was compiled for that instruction set; false for a name of another
/// architecture, or of none.
inline bool processor_runs(std::string_view isa) noexcept {
    if (isa == "generic") return true;
#if defined(__x86_64__)
    static const detail::processor_features has;
    if (isa == "avx2") return has.v3();
    if (isa == "avx2vnni") return has.v3() && has.avx_vnni();
    if (isa == "avx512") return has.v4();
    if (isa == "avx512vnni") return has.v4() && has.avx512_vnni();
    if (isa == "avx512vbmi") return has.v4() && has.avx512_vnni() && has.avx512_vbmi();
#elif defined(__aarch64__)
    if (isa == "neon") return true;
#if defined(__linux__)
    // armv8.2-a, which compilers want below the dot product, brings atomics, CRC and rounding multiplications.
    constexpr unsigned long dotprod = HWCAP_ASIMDDP | HWCAP_ATOMICS | HWCAP_CRC32 | HWCAP_ASIMDRDM;
    if (isa == "neon_dotprod") return (getauxval(AT_HWCAP) & dotprod) == dotprod;
#elif defined(__APPLE__)
    if (isa == "neon_dotprod") return true;  // every 64-bit Mac has it
#endif
#endif
    return false;
}

/// Index of the instruction set to use among those `compiled`, the best one first: the one `wanted`, or where that is
/// null or empty the first one that the processor runs. Throws unsupported_error if it is not to be had.
inline std::size_t choose_isa(std::span<const std::string_view> compiled, const char* wanted) {
    const bool any = wanted == nullptr || *wanted == '\0';
    std::string known, runnable;
    for (std::size_t i = 0; i < compiled.size(); ++i) {
        const bool runs = processor_runs(compiled[i]);
        if (runs && (any || compiled[i] == wanted)) return i;
        known.append(known.empty() ? "" : ", ").append(compiled[i]);
        if (runs) runnable.append(runnable.empty() ? "" : ", ").append(compiled[i]);
    }
    if (runnable.empty()) runnable = "none";
    if (any) {
        throw_error<unsupported_error>("instruction set of this processor: expected one of those compiled (" + known +
                                       "), found none of them");
    }
    throw_error<unsupported_error>("environment variable HLWQ_ISA: expected an instruction set that runs here (" +
                                   runnable + ") of those compiled (" + known + "), found \"" + std::string(wanted) +
                                   "\"");
}

}  // namespace HLWQ_CODE_NAMESPACE
}  // namespace hlwq::dispatch
