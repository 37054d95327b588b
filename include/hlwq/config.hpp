// hlwq/config.hpp — version, compiler words, and the two names under which code is compiled
//
// Data has no instruction set; code has. Plain types live in `hlwq`; every function with a loop lives in
// `hlwq::inline HLWQ_CODE_NAMESPACE`, named after the instruction set, the SIMD backend and the error mode of the
// translation unit, so that objects built with different flags can be linked into one program.
//
// What a consumer may define before the first include
//   HLWQ_SIMD_SCALAR | HLWQ_SIMD_HIGHWAY | HLWQ_SIMD_XSIMD   the backend; otherwise the first one that is installed
//   HLWQ_NO_EXCEPTIONS                                        errors call hlwq::fatal (implied by -fno-exceptions)
//   HLWQ_PROMISED                                             arguments were checked elsewhere: no check, no message
//                                                             (units that are compiled once for each instruction set)
#pragma once

#define HLWQ_VERSION_MAJOR 0
#define HLWQ_VERSION_MINOR 1
#define HLWQ_VERSION_PATCH 0

#if !defined(__cplusplus) || __cplusplus < 202002L
#error "hlwq needs C++20: compile with -std=c++20 or newer"
#endif

#define HLWQ_INLINE inline __attribute__((always_inline))
#define HLWQ_COLD __attribute__((noinline, cold))
// Only on loops with a constant trip count inside templates: clang warns where it cannot unroll.
#define HLWQ_UNROLL _Pragma("GCC unroll 64")

#if defined(__CUDACC__)
#define HLWQ_HOST_DEVICE __host__ __device__
#else
#define HLWQ_HOST_DEVICE
#endif

#if !defined(HLWQ_NO_EXCEPTIONS) && !defined(__cpp_exceptions)
#define HLWQ_NO_EXCEPTIONS
#endif

// The instruction set of this translation unit, from predefined macros. avx512vbmi has VBMI and VNNI, avx512vnni VNNI
// alone (Cascade Lake), avx512 neither.
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__) && \
    defined(__AVX512CD__)
#if defined(__AVX512VBMI__) && defined(__AVX512VNNI__)
#define HLWQ_ISA avx512vbmi
#define HLWQ_ISA_AVX512VBMI
#define HLWQ_ISA_AVX512VNNI
#elif defined(__AVX512VNNI__)
#define HLWQ_ISA avx512vnni
#define HLWQ_ISA_AVX512VNNI
#else
#define HLWQ_ISA avx512
#endif
#define HLWQ_ISA_AVX512
#define HLWQ_ISA_BYTES 64
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#if defined(__AVXVNNI__)
#define HLWQ_ISA avx2vnni
#define HLWQ_ISA_AVX2VNNI
#else
#define HLWQ_ISA avx2
#endif
#define HLWQ_ISA_AVX2
#define HLWQ_ISA_BYTES 32
#elif defined(__SSSE3__)
#define HLWQ_ISA ssse3
#define HLWQ_ISA_SSSE3
#define HLWQ_ISA_BYTES 16
#elif defined(__aarch64__) && defined(__ARM_NEON)
#if defined(__ARM_FEATURE_DOTPROD)
#define HLWQ_ISA neon_dotprod
#define HLWQ_ISA_NEON_DOTPROD
#else
#define HLWQ_ISA neon
#endif
#define HLWQ_ISA_NEON
#define HLWQ_ISA_BYTES 16
#else
#define HLWQ_ISA generic
#define HLWQ_ISA_GENERIC
#define HLWQ_ISA_BYTES 16
#endif

// The SIMD backend. Without vector instructions both libraries degrade to single lanes; the scalar backend is the
// better choice there.
#if defined(HLWQ_SIMD_SCALAR) + defined(HLWQ_SIMD_HIGHWAY) + defined(HLWQ_SIMD_XSIMD) > 1
#error "define at most one of HLWQ_SIMD_SCALAR, HLWQ_SIMD_HIGHWAY, HLWQ_SIMD_XSIMD"
#elif defined(HLWQ_SIMD_SCALAR) || defined(HLWQ_ISA_GENERIC)
#define HLWQ_BACKEND scalar
#define HLWQ_BACKEND_SCALAR
#elif defined(HLWQ_SIMD_HIGHWAY)
#define HLWQ_BACKEND highway
#define HLWQ_BACKEND_HIGHWAY
#elif defined(HLWQ_SIMD_XSIMD)
#define HLWQ_BACKEND xsimd
#define HLWQ_BACKEND_XSIMD
#elif __has_include(<hwy/highway.h>)
#define HLWQ_BACKEND highway
#define HLWQ_BACKEND_HIGHWAY
#elif __has_include(<xsimd/xsimd.hpp>)
#define HLWQ_BACKEND xsimd
#define HLWQ_BACKEND_XSIMD
#else
#define HLWQ_BACKEND scalar
#define HLWQ_BACKEND_SCALAR
#endif

#if defined(HLWQ_PROMISED)
#define HLWQ_DETAIL_ERRORS promised
#elif defined(HLWQ_NO_EXCEPTIONS)
#define HLWQ_DETAIL_ERRORS fatal
#else
#define HLWQ_DETAIL_ERRORS throw
#endif

#define HLWQ_DETAIL_JOIN2(major, isa, backend, errors) v##major##_##isa##_##backend##_##errors
#define HLWQ_DETAIL_JOIN(major, isa, backend, errors) HLWQ_DETAIL_JOIN2(major, isa, backend, errors)
#define HLWQ_DETAIL_TEXT2(x) #x
#define HLWQ_DETAIL_TEXT(x) HLWQ_DETAIL_TEXT2(x)
#define HLWQ_CODE_NAMESPACE HLWQ_DETAIL_JOIN(HLWQ_VERSION_MAJOR, HLWQ_ISA, HLWQ_BACKEND, HLWQ_DETAIL_ERRORS)

/// `prefix` with the instruction set behind it, HLWQ_FOR_ISA(kernels_) being kernels_avx2 or another: what a file that
/// is compiled once for each instruction set calls the one thing that it exports (cmake/hlwq_add_dispatch.cmake).
#define HLWQ_DETAIL_PASTE2(prefix, isa) prefix##isa
#define HLWQ_DETAIL_PASTE(prefix, isa) HLWQ_DETAIL_PASTE2(prefix, isa)
#define HLWQ_FOR_ISA(prefix) HLWQ_DETAIL_PASTE(prefix, HLWQ_ISA)

namespace hlwq {

inline constexpr int version_major = HLWQ_VERSION_MAJOR;
inline constexpr int version_minor = HLWQ_VERSION_MINOR;
inline constexpr int version_patch = HLWQ_VERSION_PATCH;
inline constexpr const char* version = HLWQ_DETAIL_TEXT(HLWQ_VERSION_MAJOR) "." HLWQ_DETAIL_TEXT(
    HLWQ_VERSION_MINOR) "." HLWQ_DETAIL_TEXT(HLWQ_VERSION_PATCH);

inline namespace HLWQ_CODE_NAMESPACE {

// Declared here first, so that every later `namespace detail` means this one, in whatever order headers are included.
namespace detail {

/// Whether public functions check their arguments.
#if defined(HLWQ_PROMISED)
inline constexpr bool checks = false;
#else
inline constexpr bool checks = true;
#endif

}  // namespace detail

/// Name of the instruction set that this translation unit was compiled for: "avx512vbmi", "avx2", "neon", ...
constexpr const char* isa_name() noexcept { return HLWQ_DETAIL_TEXT(HLWQ_ISA); }
/// Name of the SIMD backend of this translation unit: "highway", "xsimd" or "scalar".
constexpr const char* backend_name() noexcept { return HLWQ_DETAIL_TEXT(HLWQ_BACKEND); }

}  // namespace HLWQ_CODE_NAMESPACE
}  // namespace hlwq
