// tests/backends.hpp — every SIMD backend that this translation unit can compile, for TEST_CASE_TEMPLATE
//
//   TEST_CASE_TEMPLATE("rotation", S, HLWQ_TEST_BACKENDS) { fwht<S, 128>(x); }
//
// Which one is simd::native does not matter: all installed libraries are tested in one program.
#pragma once

#include "hlwq/simd/backend.hpp"

#include <doctest/doctest.h>

#if !defined(HLWQ_ISA_GENERIC) && __has_include(<hwy/highway.h>)
#include "hlwq/simd/highway.hpp"
#define HLWQ_TEST_HIGHWAY , ::hlwq::simd::highway_backend
static_assert(hlwq::simd::backend<hlwq::simd::highway_backend>);
TYPE_TO_STRING_AS("highway", ::hlwq::simd::highway_backend);
#else
#define HLWQ_TEST_HIGHWAY
#endif

#if !defined(HLWQ_ISA_GENERIC) && __has_include(<xsimd/xsimd.hpp>)
#include "hlwq/simd/xsimd.hpp"
#define HLWQ_TEST_XSIMD , ::hlwq::simd::xsimd_backend
static_assert(hlwq::simd::backend<hlwq::simd::xsimd_backend>);
TYPE_TO_STRING_AS("xsimd", ::hlwq::simd::xsimd_backend);
#else
#define HLWQ_TEST_XSIMD
#endif

TYPE_TO_STRING_AS("scalar", ::hlwq::simd::scalar_backend);

#define HLWQ_TEST_BACKENDS ::hlwq::simd::scalar_backend HLWQ_TEST_HIGHWAY HLWQ_TEST_XSIMD
