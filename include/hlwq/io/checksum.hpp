// hlwq/io/checksum.hpp — XXH64, to tell whether a finished file is still the file that was written
//
// 64 bits, not cryptographic: it finds accidents, not intent. The algorithm is Yann Collet's, by its specification
// (github.com/Cyan4973/xxHash, doc/xxhash_spec.md).
//
// Example
//   hlwq::io::xxh64 sum;
//   sum.update(bytes);
//   std::uint64_t value = sum.digest();
#pragma once

#include "hlwq/config.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace hlwq::io::inline HLWQ_CODE_NAMESPACE {

static_assert(std::endian::native == std::endian::little, "the sum is defined over little-endian words");

/// The sum of a stream of bytes, in pieces of any size.
class xxh64 {
  public:
    explicit xxh64(std::uint64_t seed = 0) noexcept
        : lane_{seed + prime1 + prime2, seed + prime2, seed, seed - prime1}, seed_(seed) {}

    void update(std::span<const std::byte> bytes) noexcept {
        if (bytes.empty()) return;  // its pointer may be null
        total_ += bytes.size();
        if (held_ != 0) {
            const std::size_t take = std::min(bytes.size(), stripe - held_);
            std::memcpy(buffer_ + held_, bytes.data(), take);
            held_ += take;
            bytes = bytes.subspan(take);
            if (held_ < stripe) return;
            absorb(buffer_);
            held_ = 0;
        }
        for (; bytes.size() >= stripe; bytes = bytes.subspan(stripe)) absorb(bytes.data());
        if (!bytes.empty()) std::memcpy(buffer_, bytes.data(), bytes.size());
        held_ = bytes.size();
    }

    /// The sum of everything so far; more may follow.
    std::uint64_t digest() const noexcept {
        std::uint64_t sum = seed_ + prime5;
        if (total_ >= stripe) {
            sum = std::rotl(lane_[0], 1) + std::rotl(lane_[1], 7) + std::rotl(lane_[2], 12) + std::rotl(lane_[3], 18);
            for (const std::uint64_t lane : lane_) sum = (sum ^ round(0, lane)) * prime1 + prime4;
        }
        sum += total_;
        std::size_t at = 0;
        for (; at + 8 <= held_; at += 8) {
            sum = std::rotl(sum ^ round(0, read<std::uint64_t>(buffer_ + at)), 27) * prime1 + prime4;
        }
        if (at + 4 <= held_) {
            sum = std::rotl(sum ^ (read<std::uint32_t>(buffer_ + at) * prime1), 23) * prime2 + prime3;
            at += 4;
        }
        for (; at < held_; ++at)
            sum = std::rotl(sum ^ (std::to_integer<std::uint64_t>(buffer_[at]) * prime5), 11) * prime1;
        sum = (sum ^ (sum >> 33)) * prime2;
        sum = (sum ^ (sum >> 29)) * prime3;
        return sum ^ (sum >> 32);
    }

  private:
    static constexpr std::uint64_t prime1 = 0x9e3779b185ebca87ull, prime2 = 0xc2b2ae3d27d4eb4full,
                                   prime3 = 0x165667b19e3779f9ull, prime4 = 0x85ebca77c2b2ae63ull,
                                   prime5 = 0x27d4eb2f165667c5ull;
    static constexpr std::size_t stripe = 32;

    template <class T>
    static std::uint64_t read(const std::byte* p) noexcept {
        T word;
        std::memcpy(&word, p, sizeof word);
        return word;
    }
    static std::uint64_t round(std::uint64_t lane, std::uint64_t input) noexcept {
        return std::rotl(lane + input * prime2, 31) * prime1;
    }
    void absorb(const std::byte* p) noexcept {
        for (std::size_t i = 0; i < 4; ++i) lane_[i] = round(lane_[i], read<std::uint64_t>(p + 8 * i));
    }

    std::uint64_t lane_[4];
    std::uint64_t seed_;
    std::uint64_t total_ = 0;
    std::byte buffer_[stripe] = {};
    std::size_t held_ = 0;
};

}  // namespace hlwq::io::inline HLWQ_CODE_NAMESPACE
