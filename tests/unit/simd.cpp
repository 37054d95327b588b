#include "hlwq/simd/backend.hpp"

#include "backends.hpp"
#include "reference.hpp"
#include "tally.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using scalar = hlwq::simd::scalar_backend;

// ---- the traps of the libraries

#if defined(HWY_COMPILE_ONLY_STATIC)
#error "hlwq took dynamic dispatch away from whoever includes it"
#endif
#if defined(HWY_STATIC_TARGET)
static_assert(HWY_TARGET == HWY_STATIC_TARGET);
static_assert(hlwq::simd::highway_backend::bytes == HLWQ_ISA_BYTES, "Highway must not fall back to narrower vectors");
static_assert(std::is_trivially_copyable_v<hlwq::simd::highway_backend::f32> &&
                  sizeof(hlwq::simd::highway_backend::f32[3]) == 3 * HLWQ_ISA_BYTES,
              "vectors have a size and can be array elements, also where the flags promise SVE");
#endif
#if defined(XSIMD_VERSION_MAJOR) && !defined(HLWQ_ISA_GENERIC)
static_assert(hlwq::simd::xsimd_backend::bytes == HLWQ_ISA_BYTES, "xsimd must not fall back to narrower vectors");
static_assert(sizeof(hlwq::simd::xsimd_backend::f32[3]) == 3 * HLWQ_ISA_BYTES);
#endif
#if defined(HLWQ_ISA_GENERIC)
static_assert(std::is_same_v<hlwq::simd::native, scalar>, "the libraries work on single lanes without vector flags");
#endif

// ---- helpers

/// Random bits that are the same on every machine.
struct random_source {
    reference::random source;
    explicit random_source(std::uint64_t seed) : source(seed) {}
    std::uint32_t next() { return static_cast<std::uint32_t>(source.next() >> 32); }
    std::uint8_t byte() { return static_cast<std::uint8_t>(source.next() >> 56); }
};

/// Runs `op(backend, a, b)` once on vectors of S and once on each 16-byte part in the scalar backend.
template <class S, class Op>
void compare_bytes(tally& t, const char* what, const std::uint8_t* a, const std::uint8_t* b, Op op) {
    std::uint8_t found[S::bytes], expected[S::bytes];
    S::store_u8(found, op(S{}, S::load_u8(a), S::load_u8(b)));
    for (std::size_t i = 0; i < S::bytes; i += scalar::bytes) {
        scalar::store_u8(expected + i, op(scalar{}, scalar::load_u8(a + i), scalar::load_u8(b + i)));
    }
    t.same(found, expected, S::bytes, what);
}

/// The same over all 65,536 pairs of bytes.
template <class S, class Op>
void compare_all_byte_pairs(const char* what, Op op) {
    tally t;
    std::uint8_t a[S::bytes], b[S::bytes];
    for (unsigned at = 0; at < 0x10000; at += S::bytes) {
        for (unsigned i = 0; i < S::bytes; ++i) {
            a[i] = static_cast<std::uint8_t>((at + i) >> 8);
            b[i] = static_cast<std::uint8_t>(at + i);
        }
        compare_bytes<S>(t, what, a, b, op);
    }
    t.finish(0x10000);
}

template <class S, class Op>
void compare_floats(tally& t, const char* what, const float* a, const float* b, Op op) {
    float found[S::lanes], expected[S::lanes];
    S::store(found, op(S{}, S::load(a), S::load(b)));
    for (std::size_t i = 0; i < S::lanes; i += scalar::lanes) {
        scalar::store(expected + i, op(scalar{}, scalar::load(a + i), scalar::load(b + i)));
    }
    t.same(found, expected, S::lanes, what);
}

/// Numbers of every size and sign, edges first.
std::vector<float> float_samples() {
    std::vector<float> samples = {0.0f,           1.0f,   0.5f,       1.5f,      2.5f,      3.0f,   8388607.5f,
                                  8388608.0f,     1e-3f,  1e30f,      0x1p-126f, 0x1p-149f, 1e-40f, 0x1.fffffep127f,
                                  0x1.fffffep-1f, 127.5f, 0.49999997f};
    random_source random(1);
    while (samples.size() < 120) {
        const float x = std::bit_cast<float>(random.next() & 0x7fffffffu);
        if (std::isfinite(x)) samples.push_back(x);
    }
    const std::size_t positive = samples.size();
    for (std::size_t i = 0; i < positive; ++i) samples.push_back(-samples[i]);
    return samples;
}

/// Every pair of samples, `lanes` pairs at a time.
template <class S, class F>
void each_pair(const std::vector<float>& samples, F f) {
    const std::size_t count = samples.size();
    float a[S::lanes], b[S::lanes];
    for (std::size_t at = 0; at < count * count; at += S::lanes) {
        for (std::size_t i = 0; i < S::lanes; ++i) {
            const std::size_t pair = (at + i) % (count * count);
            a[i] = samples[pair / count];
            b[i] = samples[pair % count];
        }
        f(a, b);
    }
}

}  // namespace

// ---- memory

TEST_CASE_TEMPLATE("loads and stores touch their own bytes only", S, HLWQ_TEST_BACKENDS) {
    random_source random(2);
    tally t;
    const auto round_trip = [&](auto element, auto copy, const char* what) {
        using T = decltype(element);
        constexpr std::size_t count = S::bytes / sizeof(T);
        tight_buffer<T> source(count), untouched(3 * count), out(3 * count);
        for (std::size_t i = 0; i < count; ++i) source.data[i] = static_cast<T>(random.next());
        std::fill_n(untouched.data, 3 * count, static_cast<T>(77));
        for (std::size_t offset = 0; offset <= 2 * count; ++offset) {
            std::copy_n(untouched.data, 3 * count, out.data);
            copy(source.data, out.data + offset);
            t.same(out.data, untouched.data, offset, what);
            t.same(out.data + offset, source.data, count, what);
            t.same(out.data + offset + count, untouched.data, 2 * count - offset, what);
        }
    };
    round_trip(
        float{}, [](auto from, auto to) { S::store(to, S::load(from)); }, "f32");
    round_trip(
        std::int32_t{}, [](auto from, auto to) { S::store_i32(to, S::load_i32(from)); }, "i32");
    round_trip(
        std::uint8_t{}, [](auto from, auto to) { S::store_u8(to, S::load_u8(from)); }, "u8");
    round_trip(
        std::int8_t{}, [](auto from, auto to) { S::store_i8(to, S::load_i8(from)); }, "i8");
    S::prefetch(nullptr);
    t.finish(4 * 2 * S::lanes * 3 * S::lanes);
}

template <class S, std::size_t Stride>
void check_load_blocks(tally& t, random_source& random) {
    const std::size_t size = (S::bytes / 16 - 1) * Stride + 16;
    tight_buffer<std::uint8_t> source(size);
    std::generate_n(source.data, size, [&] { return random.byte(); });
    std::uint8_t found[S::bytes], expected[S::bytes];
    S::store_u8(found, S::template load_blocks<Stride>(source.data));
    for (std::size_t i = 0; i < S::bytes; ++i) expected[i] = source.data[i / 16 * Stride + i % 16];
    t.same(found, expected, S::bytes, "load_blocks");
}

TEST_CASE_TEMPLATE("load_dup16 repeats 16 bytes, load_blocks takes 16 from every stride", S, HLWQ_TEST_BACKENDS) {
    random_source random(3);
    tally t;
    tight_buffer<std::uint8_t> source(16);
    std::generate_n(source.data, 16, [&] { return random.byte(); });
    std::uint8_t found[S::bytes];
    S::store_u8(found, S::load_dup16(source.data));
    for (std::size_t i = 0; i < S::bytes; i += 16) t.same(found + i, source.data, 16, "load_dup16");
    [&]<std::size_t... Stride>(std::index_sequence<Stride...>) { (check_load_blocks<S, Stride>(t, random), ...); }
    (std::index_sequence<1, 4, 6, 10, 12, 14, 16, 80>{});
    t.finish(9 * S::bytes);
}

TEST_CASE_TEMPLATE("every half and every bfloat16 widens exactly", S, HLWQ_TEST_BACKENDS) {
    tally half_values, half_nans, bfloat16_values, pairs;
    tight_buffer<hlwq::half> halves(S::lanes);
    tight_buffer<hlwq::bfloat16> truncated(2 * S::lanes);
    float found[S::lanes], expected[2 * S::lanes], odd_found[S::lanes];
    for (unsigned at = 0; at < 0x10000; at += S::lanes) {
        for (unsigned i = 0; i < S::lanes; ++i) {
            halves.data[i] = hlwq::half::from_bits(static_cast<std::uint16_t>(at + i));
            expected[i] = hlwq::half::to_float(static_cast<std::uint16_t>(at + i));
        }
        S::store(found, S::load_half(halves.data));
        for (unsigned i = 0; i < S::lanes; ++i) {
            if (std::isnan(expected[i])) {
                // Which NaN comes back is the processor's choice; its sign is kept.
                const bool both[2] = {std::isnan(found[i]), std::signbit(found[i]) == std::signbit(expected[i])};
                const bool right[2] = {true, true};
                half_nans.same(both, right, 2, "load_half of NaN");
            } else {
                half_values.same(found + i, expected + i, 1, "load_half");
            }
        }
    }
    half_values.finish(0x10000 - 2 * 1023);
    half_nans.finish(2 * 2 * 1023);

    for (unsigned at = 0; at < 0x10000; at += S::lanes) {
        for (unsigned i = 0; i < 2 * S::lanes; ++i) {
            truncated.data[i] = hlwq::bfloat16::from_bits(static_cast<std::uint16_t>(at + i));
            expected[i] = hlwq::bfloat16::to_float(static_cast<std::uint16_t>(at + i));
        }
        S::store(found, S::load_bfloat16(truncated.data + S::lanes));
        bfloat16_values.same(found, expected + S::lanes, S::lanes, "load_bfloat16");
        typename S::f32 even, odd;
        S::load_bfloat16_pairs(truncated.data, even, odd);
        S::store(found, even);
        S::store(odd_found, odd);
        for (std::size_t i = 0; i < S::lanes; ++i) {
            pairs.same(found + i, expected + 2 * i, 1, "even of load_bfloat16_pairs");
            pairs.same(odd_found + i, expected + 2 * i + 1, 1, "odd of load_bfloat16_pairs");
        }
    }
    bfloat16_values.finish(0x10000);
    pairs.finish(0x20000);
}

TEST_CASE_TEMPLATE("widen_u8 extends by zeros", S, HLWQ_TEST_BACKENDS) {
    tally t;
    tight_buffer<std::uint8_t> source(S::lanes);
    std::int32_t found[S::lanes], expected[S::lanes];
    for (unsigned at = 0; at < 256; ++at) {
        for (unsigned i = 0; i < S::lanes; ++i) {
            source.data[i] = static_cast<std::uint8_t>(at + 37 * i);
            expected[i] = source.data[i];
        }
        S::store_i32(found, S::widen_u8(source.data));
        t.same(found, expected, S::lanes, "widen_u8");
    }
    t.finish(256 * S::lanes);
}

// ---- float and int32 lanes

TEST_CASE_TEMPLATE("float arithmetic rounds as the processor's scalar operations do", S, HLWQ_TEST_BACKENDS) {
    const auto samples = float_samples();
    tally t, fused;
    each_pair<S>(samples, [&](const float* a, const float* b) {
        compare_floats<S>(t, "add", a, b, [](auto s, auto x, auto y) { return s.add(x, y); });
        compare_floats<S>(t, "sub", a, b, [](auto s, auto x, auto y) { return s.sub(x, y); });
        compare_floats<S>(t, "mul", a, b, [](auto s, auto x, auto y) { return s.mul(x, y); });
        compare_floats<S>(t, "abs", a, b, [](auto s, auto x, auto) { return s.abs(x); });
        float found[S::lanes], extremes[2][S::lanes];
        S::store(found, S::fma(S::load(a), S::load(b), S::set(-1.25f)));
        S::store(extremes[0], S::min(S::load(a), S::load(b)));
        S::store(extremes[1], S::max(S::load(a), S::load(b)));
        for (std::size_t i = 0; i < S::lanes; ++i) {
            volatile float product = a[i] * b[i];  // volatile, lest the compiler fuses it itself
            const float apart = product - 1.25f;
            const float together = std::fma(a[i], b[i], -1.25f);
            const float nearest = found[i] == apart ? apart : together;
            fused.same(found + i, &nearest, 1, "fma");
            // By value: of two zeros either may come back.
            const bool right[2] = {extremes[0][i] == std::min(a[i], b[i]), extremes[1][i] == std::max(a[i], b[i])};
            const bool expected[2] = {true, true};
            t.same(right, expected, 2, "min, max");
        }
    });
    t.finish(6 * samples.size() * samples.size());
    fused.finish(samples.size() * samples.size());
}

TEST_CASE_TEMPLATE("set fills every lane", S, HLWQ_TEST_BACKENDS) {
    tally t;
    float f[S::lanes];
    std::int32_t n[S::lanes];
    std::uint8_t u[S::bytes];
    for (int x = 0; x < 256; ++x) {
        const float as_float = static_cast<float>(x) - 1e-3f;
        const auto as_int = static_cast<std::int32_t>(0x01000101u * static_cast<unsigned>(x));
        const auto as_byte = static_cast<std::uint8_t>(x);
        S::store(f, S::set(as_float));
        S::store_i32(n, S::set_i32(as_int));
        S::store_u8(u, S::set_u8(as_byte));
        for (std::size_t i = 0; i < S::lanes; ++i) t.same(f + i, &as_float, 1, "set");
        for (std::size_t i = 0; i < S::lanes; ++i) t.same(n + i, &as_int, 1, "set_i32");
        for (std::size_t i = 0; i < S::bytes; ++i) t.same(u + i, &as_byte, 1, "set_u8");
    }
    t.finish(256 * (2 * S::lanes + S::bytes));
}

TEST_CASE_TEMPLATE("reductions see every lane", S, HLWQ_TEST_BACKENDS) {
    float x[S::lanes];
    for (std::size_t at = 0; at < S::lanes; ++at) {
        for (std::size_t i = 0; i < S::lanes; ++i) x[i] = -static_cast<float>(1u << i);
        CHECK(S::reduce_add(S::load(x)) == 1.0f - static_cast<float>(1u << S::lanes));
        x[at] = 0x1p20f;
        CHECK(S::reduce_max(S::load(x)) == 0x1p20f);
        x[at] = -0.25f;
        CHECK(S::reduce_max(S::load(x)) == -0.25f);
    }
}

template <class S, std::size_t K>
void check_swap() {
    float x[S::lanes], found[S::lanes], expected[S::lanes];
    for (std::size_t i = 0; i < S::lanes; ++i) x[i] = static_cast<float>(i);
    for (std::size_t i = 0; i < S::lanes; ++i) expected[i] = x[i ^ K];
    S::store(found, S::template swap<K>(S::load(x)));
    tally t;
    t.same(found, expected, S::lanes, "swap");
    t.finish(S::lanes);
    if constexpr (2 * K < S::lanes) check_swap<S, 2 * K>();
}
TEST_CASE_TEMPLATE("swap exchanges lanes at every distance", S, HLWQ_TEST_BACKENDS) { check_swap<S, 1>(); }

TEST_CASE_TEMPLATE("int32 lanes: sums wrap, conversion rounds to nearest", S, HLWQ_TEST_BACKENDS) {
    tally t;
    random_source random(4);
    std::int32_t a[S::lanes], b[S::lanes], found[S::lanes], sum[S::lanes];
    float converted[S::lanes], as_float[S::lanes];
    const std::int32_t edges[] = {0,        1,        -1,        16777216,   16777217,    16777219,
                                  33554434, 33554438, -16777217, 2147483647, -2147483647, 2147483584};
    for (int round = 0; round < 200; ++round) {
        for (std::size_t i = 0; i < S::lanes; ++i) {
            a[i] = round < 12 ? edges[round] : static_cast<std::int32_t>(random.next());
            b[i] = static_cast<std::int32_t>(random.next());
            sum[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(a[i]) + static_cast<std::uint32_t>(b[i]));
            as_float[i] = static_cast<float>(a[i]);
        }
        S::store_i32(found, S::add_i32(S::load_i32(a), S::load_i32(b)));
        t.same(found, sum, S::lanes, "add_i32");
        S::store(converted, S::to_f32(S::load_i32(a)));
        t.same(converted, as_float, S::lanes, "to_f32");
    }
    t.finish(400 * S::lanes);
}

TEST_CASE_TEMPLATE("round_to_i32 takes ties to even", S, HLWQ_TEST_BACKENDS) {
    std::vector<float> samples;
    for (int k = -600; k <= 600; ++k) samples.push_back(static_cast<float>(k) * 0.25f);
    for (const float x : float_samples()) {
        if (std::fabs(x) < 0x1p31f) samples.push_back(x);
    }
    for (const float x : {4194304.5f, 4194305.5f, 8388609.0f, 2147483520.0f, -2147483520.0f}) samples.push_back(x);
    tally t;
    for (const float x : samples) {
        std::int32_t found[S::lanes];
        S::store_i32(found, S::round_to_i32(S::set(x)));
        const double down = std::floor(static_cast<double>(x));
        const double rest = static_cast<double>(x) - down;
        const bool up = rest > 0.5 || (rest == 0.5 && std::fmod(down, 2.0) != 0.0);
        const auto expected = static_cast<std::int32_t>(down + (up ? 1.0 : 0.0));
        for (std::size_t i = 0; i < S::lanes; ++i) t.same(found + i, &expected, 1, "round_to_i32");
    }
    t.finish(1300 * S::lanes);
}

TEST_CASE_TEMPLATE("append_greater appends one bit", S, HLWQ_TEST_BACKENDS) {
    auto samples = float_samples();
    samples.resize(60);
    for (const float x : {-0.0f, std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN(), -1.0f, -2.5f}) {
        samples.push_back(x);
    }
    tally t;
    std::int32_t n = -300;
    each_pair<S>(samples, [&](const float* a, const float* b) {
        std::int32_t found[S::lanes], expected[S::lanes];
        S::store_i32(found, S::append_greater(S::set_i32(n), S::load(a), S::load(b)));
        for (std::size_t i = 0; i < S::lanes; ++i) expected[i] = 2 * n + (a[i] > b[i] ? 1 : 0);
        t.same(found, expected, S::lanes, "append_greater");
        ++n;
    });
    t.finish(samples.size() * samples.size());
}

template <class S, std::size_t N>
void check_lookup(tally& t) {
    tight_buffer<float> table(N);
    for (std::size_t i = 0; i < N; ++i) table.data[i] = static_cast<float>(i) * 1.5f - 77.0f;
    std::int32_t index[S::lanes];
    float found[S::lanes], expected[S::lanes];
    for (std::size_t at = 0; at < N; ++at) {
        for (std::size_t i = 0; i < S::lanes; ++i) {
            const std::size_t k = (at + 5 * i) % N;
            index[i] = static_cast<std::int32_t>(k);
            expected[i] = static_cast<float>(k) * 1.5f - 77.0f;
        }
        S::store(found, S::template lookup_f32<N>(table.data, S::load_i32(index)));
        t.same(found, expected, S::lanes, ("lookup_f32, N = " + std::to_string(N)).c_str());
    }
    if constexpr (N < 256) check_lookup<S, 2 * N>(t);
}
TEST_CASE_TEMPLATE("lookup_f32 finds every entry of every table size", S, HLWQ_TEST_BACKENDS) {
    tally t;
    check_lookup<S, 1>(t);
    t.finish(511 * S::lanes);
}

TEST_CASE_TEMPLATE("narrowing saturates and keeps the order", S, HLWQ_TEST_BACKENDS) {
    const std::int32_t edges[] = {-129,       -128,        -127,
                                  -1,         0,           1,
                                  127,        128,         254,
                                  255,        256,         32767,
                                  32768,      -32768,      -32769,
                                  65535,      65536,       -65536,
                                  65408,      -65281,      131071,
                                  131072,     1 << 24,     -(1 << 24),
                                  2147483647, -2147483647, std::numeric_limits<std::int32_t>::min()};
    constexpr std::size_t edge_count = sizeof(edges) / sizeof(edges[0]);
    random_source random(5);
    tally t;
    std::int32_t x[S::bytes];
    std::int8_t found_i8[S::bytes], expected_i8[S::bytes];
    std::uint8_t found_u8[S::bytes], expected_u8[S::bytes];
    for (std::size_t round = 0; round < 400; ++round) {
        for (std::size_t i = 0; i < S::bytes; ++i) {
            // First each edge in each lane, then small numbers among which every lane differs.
            x[i] = round < 2 * edge_count ? edges[(round + i) % edge_count]
                                          : static_cast<std::int32_t>(random.next()) >> 21;
            expected_i8[i] = static_cast<std::int8_t>(std::clamp(x[i], -128, 127));
            expected_u8[i] = static_cast<std::uint8_t>(std::clamp(x[i], 0, 255));
        }
        const auto part = [&](std::size_t k) { return S::load_i32(x + k * S::lanes); };
        S::store_i8(found_i8, S::narrow_i8(part(0), part(1), part(2), part(3)));
        S::store_u8(found_u8, S::narrow_u8(part(0), part(1), part(2), part(3)));
        t.same(found_i8, expected_i8, S::bytes, "narrow_i8");
        t.same(found_u8, expected_u8, S::bytes, "narrow_u8");
    }
    t.finish(800 * S::bytes);
}

// ---- bytes

TEST_CASE_TEMPLATE("byte operations over all pairs of bytes", S, HLWQ_TEST_BACKENDS) {
    compare_all_byte_pairs<S>("and_", [](auto s, auto a, auto b) { return s.and_(a, b); });
    compare_all_byte_pairs<S>("or_", [](auto s, auto a, auto b) { return s.or_(a, b); });
    compare_all_byte_pairs<S>("xor_", [](auto s, auto a, auto b) { return s.xor_(a, b); });
    compare_all_byte_pairs<S>("sub_u8", [](auto s, auto a, auto b) { return s.sub_u8(a, b); });
    for (int bit = 0; bit < 8; ++bit) {
        const auto mask = static_cast<std::uint8_t>(1 << bit);
        compare_all_byte_pairs<S>("bit_mask", [=](auto s, auto a, auto) { return s.bit_mask(a, s.set_u8(mask)); });
    }
}

template <class S, int N>
void check_shr16(tally& t, const std::uint8_t* words) {
    compare_bytes<S>(t, "shr16", words, words, [](auto s, auto a, auto) { return decltype(s)::template shr16<N>(a); });
    if constexpr (N < 15) check_shr16<S, N + 1>(t, words);
}
TEST_CASE_TEMPLATE("16-bit lanes: every shift of every value, products of every value", S, HLWQ_TEST_BACKENDS) {
    random_source random(6);
    tally shifts, products;
    std::uint8_t a[S::bytes], b[S::bytes];
    const std::uint16_t edges[] = {0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0x8001, 0xff00, 0xffff};
    const auto put = [](std::uint8_t* p, unsigned x) {
        p[0] = static_cast<std::uint8_t>(x);
        p[1] = static_cast<std::uint8_t>(x >> 8);
    };
    for (unsigned at = 0; at < 0x10000; at += S::bytes / 2) {
        for (unsigned i = 0; i < S::bytes / 2; ++i) put(a + 2 * i, at + i);
        check_shr16<S, 0>(shifts, a);
        for (unsigned k = 0; k < 16; ++k) {
            for (unsigned i = 0; i < S::bytes / 2; ++i) put(b + 2 * i, k < 12 ? edges[k] : random.next());
            compare_bytes<S>(products, "mulhi16", a, b, [](auto s, auto x, auto y) { return s.mulhi16(x, y); });
            compare_bytes<S>(products, "mullo16", a, b, [](auto s, auto x, auto y) { return s.mullo16(x, y); });
        }
    }
    shifts.finish(16 * 0x20000);
    products.finish(32 * 0x20000);
}

TEST_CASE_TEMPLATE("shuffle16 and lookup16 stay within 16 bytes; above 15 lookup16 gives 0", S, HLWQ_TEST_BACKENDS) {
    random_source random(7);
    tally t;
    std::uint8_t table[S::bytes], index[S::bytes];
    for (unsigned round = 0; round < 256; ++round) {
        for (unsigned i = 0; i < S::bytes; ++i) {
            table[i] = static_cast<std::uint8_t>(random.byte() | 1u);  // never 0, which means "not found"
            index[i] = static_cast<std::uint8_t>(round + i);
        }
        compare_bytes<S>(t, "lookup16", table, index, [](auto s, auto a, auto b) { return s.lookup16(a, b); });
        for (auto& i : index) i = static_cast<std::uint8_t>(i & 15);
        compare_bytes<S>(t, "shuffle16", table, index, [](auto s, auto a, auto b) { return s.shuffle16(a, b); });
    }
    t.finish(512 * S::bytes);
}

TEST_CASE_TEMPLATE("negate_where negates under the mask only", S, HLWQ_TEST_BACKENDS) {
    tally t;
    std::int8_t x[S::bytes], found[S::bytes], expected[S::bytes];
    std::uint8_t mask[S::bytes];
    for (int at = -127; at < 128; ++at) {
        for (unsigned period = 1; period <= S::bytes; period *= 2) {
            for (unsigned i = 0; i < S::bytes; ++i) {
                x[i] = static_cast<std::int8_t>((at + 127 + static_cast<int>(i)) % 255 - 127);
                mask[i] = (i / period) % 2 == 0 ? 0xff : 0;
                expected[i] = static_cast<std::int8_t>(mask[i] != 0 ? -x[i] : x[i]);
            }
            S::store_i8(found, S::negate_where(S::load_i8(x), S::load_u8(mask)));
            t.same(found, expected, S::bytes, "negate_where");
        }
    }
    t.finish(255 * 5 * S::bytes);
}

// ---- dot product

TEST_CASE_TEMPLATE("dot4 is exact", S, HLWQ_TEST_BACKENDS) {
    random_source random(8);
    tally t;
    std::int8_t w[S::bytes], x[S::bytes];
    std::uint8_t biased[S::bytes];
    std::int32_t start[S::lanes], found[S::lanes], expected[S::lanes];
    const auto check = [&](const char* what) {
        for (std::size_t i = 0; i < S::lanes; ++i) {
            start[i] = static_cast<std::int32_t>(random.next()) >> 2;
            expected[i] = start[i];
        }
        for (std::size_t i = 0; i < S::bytes; ++i) {
            biased[i] = static_cast<std::uint8_t>(w[i] + S::weight_bias);
            // The caller's part of the bargain: what the bias adds is taken off again.
            expected[i / 4] += 2 * w[i] * x[i];
        }
        auto acc = S::load_i32(start);
        S::dot4(acc, S::load_u8(biased), S::load_i8(x));
        S::dot4(acc, S::load_u8(biased), S::load_i8(x));
        S::store_i32(found, acc);
        for (std::size_t i = 0; i < S::bytes; ++i) found[i / 4] -= 2 * S::weight_bias * x[i];
        t.same(found, expected, S::lanes, what);
    };
    // All pairs, in all four places of a lane, beside products of the largest size.
    for (int a = -127; a <= 127; ++a) {
        for (int b = -127; b <= 127; b += static_cast<int>(S::lanes)) {
            for (std::size_t place = 0; place < 4; ++place) {
                for (std::size_t i = 0; i < S::bytes; ++i) {
                    const bool here = i % 4 == place;
                    w[i] = static_cast<std::int8_t>(here ? a : i % 8 < 4 ? 127 : -127);
                    x[i] = static_cast<std::int8_t>(here ? std::min(b + static_cast<int>(i / 4), 127) : 127);
                }
                check("all pairs");
            }
        }
    }
    for (unsigned signs = 0; signs < 256; ++signs) {
        for (std::size_t i = 0; i < S::bytes; ++i) {
            w[i] = (signs >> (i % 4)) & 1 ? -127 : 127;
            x[i] = (signs >> (4 + i % 4)) & 1 ? -127 : 127;
        }
        check("largest products of every sign");
    }
    for (int round = 0; round < 2000; ++round) {
        for (std::size_t i = 0; i < S::bytes; ++i) {
            w[i] = static_cast<std::int8_t>(random.next() % 255 - 127);
            x[i] = static_cast<std::int8_t>(random.next() % 255 - 127);
        }
        check("random");
    }
    t.finish(4 * 255 * 255 + 2256 * S::lanes);
}

// ---- optional operations

template <class S>
void check_byte_permutes() {
    if constexpr (S::has_byte_permute) {
        random_source random(9);
        tally t;
        std::uint8_t low[64], high[64], index[64], found[64], expected[64];
        for (unsigned round = 0; round < 256; ++round) {
            for (unsigned i = 0; i < 64; ++i) {
                low[i] = random.byte();
                high[i] = random.byte();
                index[i] = static_cast<std::uint8_t>(round + 5 * i);
            }
            S::store_u8(found, S::permute_bytes(S::load_u8(low), S::load_u8(index)));
            for (unsigned i = 0; i < 64; ++i) expected[i] = low[index[i] & 63];
            t.same(found, expected, 64, "permute_bytes");
            S::store_u8(found, S::permute_bytes2(S::load_u8(low), S::load_u8(high), S::load_u8(index)));
            for (unsigned i = 0; i < 64; ++i) expected[i] = index[i] & 64 ? high[index[i] & 63] : low[index[i] & 63];
            t.same(found, expected, 64, "permute_bytes2");
            S::store_u8(found, S::multishift(S::load_u8(low), S::load_u8(index)));
            for (unsigned i = 0; i < 64; ++i) {
                std::uint64_t lane;
                std::memcpy(&lane, low + i / 8 * 8, 8);
                expected[i] = static_cast<std::uint8_t>(std::rotr(lane, index[i] & 63));
            }
            t.same(found, expected, 64, "multishift");
        }
        t.finish(256 * 192);
    }
}
TEST_CASE_TEMPLATE("byte permutes exist where the backend says so", S, HLWQ_TEST_BACKENDS) {
#if defined(HLWQ_ISA_AVX512VBMI)
    CHECK(S::has_byte_permute == !std::is_same_v<S, scalar>);
#else
    CHECK(!S::has_byte_permute);
#endif
#if defined(HLWQ_ISA_AVX512VNNI)
    CHECK(S::weight_bias == (std::is_same_v<S, scalar> ? 0 : 128));
#endif
    check_byte_permutes<S>();
}
