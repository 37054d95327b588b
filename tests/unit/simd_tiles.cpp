// What kernels over tiles of rows and planes ask of a backend: repetition, transposition, sums of four vectors, part of
// a vector.
#include "backends.hpp"
#include "reference.hpp"
#include "tally.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

TEST_CASE_TEMPLATE("load_dup4 repeats four bytes and reads no other", S, HLWQ_TEST_BACKENDS) {
    reference::random source(1);
    tally t;
    tight_buffer<std::int8_t> four(4);
    for (int round = 0; round < 64; ++round) {
        for (int i = 0; i < 4; ++i) four.data[i] = static_cast<std::int8_t>(source.below(256));
        std::int8_t found[S::bytes], expected[S::bytes];
        S::store_i8(found, S::load_dup4(four.data));
        for (std::size_t i = 0; i < S::bytes; ++i) expected[i] = four.data[i % 4];
        t.same(found, expected, S::bytes, "load_dup4");
    }
    t.finish(64 * S::bytes);
}

TEST_CASE_TEMPLATE("transpose exchanges lanes of four bytes with vectors", S, HLWQ_TEST_BACKENDS) {
    reference::random source(2);
    tally t;
    for (int round = 0; round < 8; ++round) {
        std::uint8_t square[S::lanes][S::bytes];
        typename S::u8 v[S::lanes];
        for (std::size_t i = 0; i < S::lanes; ++i) {
            for (auto& byte : square[i]) byte = static_cast<std::uint8_t>(source.below(256));
            v[i] = S::load_u8(square[i]);
        }
        S::transpose(v);
        for (std::size_t i = 0; i < S::lanes; ++i) {
            std::uint8_t found[S::bytes], expected[S::bytes];
            S::store_u8(found, v[i]);
            for (std::size_t j = 0; j < S::lanes; ++j) std::memcpy(expected + 4 * j, square[j] + 4 * i, 4);
            t.same(found, expected, S::bytes, "transpose");
        }
    }
    t.finish(8 * S::lanes * S::bytes);
}

TEST_CASE_TEMPLATE("reduce_add4 sees every lane of every vector", S, HLWQ_TEST_BACKENDS) {
    tally t;
    for (std::size_t vector = 0; vector < 4; ++vector) {
        for (std::size_t lane = 0; lane < S::lanes; ++lane) {
            float x[4][S::lanes];
            for (std::size_t v = 0; v < 4; ++v) {
                for (std::size_t i = 0; i < S::lanes; ++i) x[v][i] = static_cast<float>(v + 1);
            }
            x[vector][lane] += 0.25f;
            float found[5] = {0, 0, 0, 0, 7}, expected[5] = {0, 0, 0, 0, 7};
            for (std::size_t v = 0; v < 4; ++v) {
                expected[v] = static_cast<float>((v + 1) * S::lanes) + (v == vector ? 0.25f : 0.0f);
            }
            S::reduce_add4(S::load(x[0]), S::load(x[1]), S::load(x[2]), S::load(x[3]), found);
            t.same(found, expected, 5, "reduce_add4");
        }
    }
    t.finish(4 * S::lanes * 5);
}

TEST_CASE_TEMPLATE("the sum of a vector does not depend on the three beside it", S, HLWQ_TEST_BACKENDS) {
    tally t;
    const auto x = reference::gaussians(64 * S::lanes, 3);
    for (std::size_t i = 0; i + 4 * S::lanes <= x.size(); i += S::lanes) {
        const auto v = [&](std::size_t k) { return S::load(x.data() + i + k * S::lanes); };
        float together[4], alone[4];
        S::reduce_add4(v(0), v(1), v(2), v(3), together);
        for (std::size_t k = 0; k < 4; ++k) {
            S::reduce_add4(v(k), v(k), v(k), v(k), alone);
            for (const float sum : alone) t.same(&sum, together + k, 1, "reduce_add4");
        }
    }
    t.finish(60 * 16);
}

TEST_CASE_TEMPLATE("load_half_part reads its halves and no other", S, HLWQ_TEST_BACKENDS) {
    reference::random source(4);
    tally t;
    for (std::size_t count = 0; count < S::lanes; ++count) {
        for (int round = 0; round < 20; ++round) {
            tight_buffer<hlwq::half> halves(count);
            float found[S::lanes], expected[S::lanes] = {};
            for (std::size_t i = 0; i < count; ++i) {
                halves.data[i] = hlwq::half(static_cast<float>(source.gaussian()));
                expected[i] = static_cast<float>(halves.data[i]);
            }
            S::store(found, S::load_half_part(halves.data, count));
            t.same(found, expected, S::lanes, "load_half_part");
        }
    }
    t.finish(20 * S::lanes * S::lanes);
}

template <class S, int Low, int High>
void check_shr16_halves(tally& t, reference::random& source) {
    if constexpr (S::bytes == 64) {
        std::uint8_t v[64], found[64], expected[64], other[64];
        std::generate_n(v, 64, [&] { return static_cast<std::uint8_t>(source.below(256)); });
        S::store_u8(found, S::template shr16_halves<Low, High>(S::load_u8(v)));
        S::store_u8(expected, S::template shr16<Low>(S::load_u8(v)));
        S::store_u8(other, S::template shr16<High>(S::load_u8(v)));
        std::copy_n(other + 32, 32, expected + 32);
        t.same(found, expected, 64, "shr16_halves");
    }
}
TEST_CASE_TEMPLATE("of 64-byte vectors: 32 bytes twice, halves shifted apart", S, HLWQ_TEST_BACKENDS) {
    reference::random source(12);
    tally t;
    if constexpr (S::bytes == 64) {
        tight_buffer<std::uint8_t> bytes(32);
        std::generate_n(bytes.data, 32, [&] { return static_cast<std::uint8_t>(source.below(256)); });
        std::uint8_t found[64];
        S::store_u8(found, S::load_dup32(bytes.data));
        for (std::size_t i = 0; i < 64; i += 32) t.same(found + i, bytes.data, 32, "load_dup32");
    }
    check_shr16_halves<S, 0, 4>(t, source);
    check_shr16_halves<S, 0, 2>(t, source);
    check_shr16_halves<S, 4, 6>(t, source);
    check_shr16_halves<S, 15, 1>(t, source);
    t.finish(S::bytes == 64 ? 5 * 64 : 0);
}
