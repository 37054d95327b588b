// hlwq/codebook.hpp — codebooks: the tables of the original, the converged one, and how to recognise them
//
// A codebook of b bits is 2^b floats in strictly ascending order, the centroids of N(0,1). A block of weights decodes
// to norm * rotate(codebook[code] / sqrt(block)); the division is not part of the table.
//
//   legacy_a    100 Lloyd iterations in double, infinite tails. The original's reader of `hlwq-q5` files.
//   legacy_b    100 Lloyd iterations with float storage, ends fixed at -4 and 4. The original's KV cache and exporter.
//   converged   the optimum for N(0,1). At 5 bits 14 % less error than A, at 6 bits 38 %.
//   custom      a table that a file brings along
//
// Codes written with one table and read with another lose 3 to 4 % between A and B at 5 bits, everything between the
// converged table and either of them. `codebook_fingerprint` recognises the table from the codes alone.
//
// Example
//   const hlwq::codebook_view centroids = hlwq::codebook_table(hlwq::codebook_id::legacy_a, 5);
//   float thresholds[31];
//   hlwq::codebook_boundaries(centroids, thresholds);
#pragma once

#include "hlwq/config.hpp"
#include "hlwq/error.hpp"
#include "hlwq/codebook_tables.hpp"

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace hlwq {

/// 2^bits centroids in strictly ascending order, scaled for N(0,1).
using codebook_view = std::span<const float>;

/// Where a codebook comes from.
enum class codebook_id : std::uint8_t { legacy_a, legacy_b, converged, custom };

namespace codebook_tables {

/// Whole tables of all widths; b bits start at 2^b - 2.
struct storage {
    float centroids[2 * half_size] = {};
};

constexpr storage mirror(const float (&half)[half_size]) noexcept {
    storage whole;
    for (int bits = 1; bits <= 8; ++bits) {
        const int count = 1 << (bits - 1);
        const int middle = (1 << bits) - 2 + count;
        for (int k = 0; k < count; ++k) {
            const float centroid = half[count - 1 + k];
            whole.centroids[middle + k] = centroid;
            whole.centroids[middle - 1 - k] = -centroid;
        }
    }
    return whole;
}

inline constexpr storage legacy_a = mirror(legacy_a_half);
inline constexpr storage legacy_b = mirror(legacy_b_half);
inline constexpr storage converged = mirror(converged_half);

}  // namespace codebook_tables

inline namespace HLWQ_CODE_NAMESPACE {

/// "legacy-a", "legacy-b", "converged" or "custom": the spelling of command lines and of polar_config.json.
constexpr const char* to_string(codebook_id id) noexcept {
    switch (id) {
        case codebook_id::legacy_a: return "legacy-a";
        case codebook_id::legacy_b: return "legacy-b";
        case codebook_id::converged: return "converged";
        case codebook_id::custom: break;
    }
    return "custom";
}

/// The inverse of `to_string`; nothing for any other text.
constexpr std::optional<codebook_id> parse_codebook(std::string_view name) noexcept {
    for (const auto id : {codebook_id::legacy_a, codebook_id::legacy_b, codebook_id::converged, codebook_id::custom})
        if (name == to_string(id)) return id;
    return std::nullopt;
}

/// The built-in table `id` for 1 to 8 bits. Throws shape_error for other widths and for `custom`, which has no table.
constexpr codebook_view codebook_table(codebook_id id, int bits) {
    HLWQ_EXPECTS(bits >= 1 && bits <= 8, shape_error, "bits of a codebook", "1 to 8", bits);
    HLWQ_EXPECTS(id <= codebook_id::converged, shape_error, "built-in codebook", "legacy-a, legacy-b or converged",
                 to_string(id));
    const auto& tables = id == codebook_id::legacy_a   ? codebook_tables::legacy_a
                         : id == codebook_id::legacy_b ? codebook_tables::legacy_b
                                                       : codebook_tables::converged;
    const std::size_t count = std::size_t{1} << bits;
    return {tables.centroids + (count - 2), count};
}

/// Throws format_error or value_error, naming `name`, unless `codebook` holds 2, 4, ... 256 finite floats in strictly
/// ascending order.
inline void check_codebook(codebook_view codebook, std::string_view name = "codebook") {
    const std::size_t count = codebook.size();
    HLWQ_EXPECTS(count >= 2 && count <= 256 && std::has_single_bit(count), format_error, std::string(name) + " size",
                 "a power of two from 2 to 256", count);
    for (std::size_t k = 0; k < count; ++k)
        HLWQ_EXPECTS(std::isfinite(codebook[k]), value_error, std::string(name) + " centroid " + std::to_string(k),
                     "a finite number", codebook[k]);
    for (std::size_t k = 1; k < count; ++k)
        HLWQ_EXPECTS(codebook[k - 1] < codebook[k], format_error, std::string(name) + " centroid " + std::to_string(k),
                     "more than " + std::to_string(codebook[k - 1]), codebook[k]);
}

/// Width of the codes of a checked codebook.
constexpr int codebook_bits(codebook_view codebook) noexcept {
    return static_cast<int>(std::bit_width(codebook.size())) - 1;
}

/// Whether centroid k is exactly minus centroid 2^b - 1 - k for every k.
constexpr bool is_symmetric(codebook_view codebook) noexcept {
    for (std::size_t k = 0; k < codebook.size(); ++k)
        if (codebook[k] != -codebook[codebook.size() - 1 - k]) return false;
    return true;
}

namespace detail {

/// The largest float that is not above (a + b) / 2, for finite a < b.
constexpr float midpoint_rounded_down(float a, float b) noexcept {
    const double sum = static_cast<double>(a) + static_cast<double>(b);
    // What the sum lost (Knuth), so that even a midpoint that needs more than 53 bits is rounded the right way.
    const double part = sum - static_cast<double>(a);
    const double lost = (static_cast<double>(a) - (sum - part)) + (static_cast<double>(b) - part);
    const double middle = sum * 0.5;
    const auto rounded = static_cast<float>(middle);
    const auto back = static_cast<double>(rounded);
    if (back < middle || (back == middle && !(lost < 0.0))) return rounded;
    if (rounded == 0.0f) return -std::numeric_limits<float>::denorm_min();
    const auto word = std::bit_cast<std::uint32_t>(rounded);
    return std::bit_cast<float>(rounded > 0.0f ? word - 1u : word + 1u);
}

/// Energies of A, B and converged where they are right, 5 to 8 bits, for the coordinates of rotated blocks of 128
/// (sphere_marginal); other block sizes change them by less than 1e-3. From 7 bits on, 1 itself would not separate.
inline constexpr double right_energy[4][3] = {
    {1.00116, 1.00094, 0.99796}, {1.00094, 1.00086, 0.99949}, {1.00030, 1.00022, 0.99987}, {1.00008, 1.00001, 0.99997}};

}  // namespace detail

/// Writes the 2^b - 1 thresholds between neighbouring centroids of `codebook` to `out`. For every float z the number
/// of thresholds below z is the index of the nearest centroid, the lower one where two are equally near: a threshold
/// is the midpoint rounded down, and no float lies between the two, so `z > threshold` is `z > midpoint` exactly.
/// Throws shape_error if `out` has another size.
constexpr void codebook_boundaries(codebook_view codebook, std::span<float> out) {
    HLWQ_EXPECTS(out.size() + 1 == codebook.size(), shape_error, "codebook boundaries", codebook.size() - 1,
                 out.size());
    for (std::size_t k = 0; k < out.size(); ++k) out[k] = detail::midpoint_rounded_down(codebook[k], codebook[k + 1]);
}

/// What `codebook_fingerprint::result` found.
struct codebook_match {
    codebook_id id = codebook_id::legacy_b;
    double energy[3] = {};   // mean square of the centroids, by codebook_id; the right table gives nearly 1
    bool confident = false;  // beyond the noise of the sample, and the codes look like rotated blocks
};

/// Recognises the table that a file's codes were made with.
///
/// A block is divided by its norm before it is rotated, so its scaled coordinates have mean square 1 whatever the
/// weights are. Hence sum p_k c_k^2 is 1.000 to 1.001 for the right table at 5 bits, 0.985 or 1.017 when A and B are
/// confused, 1.46 or 0.65 between either and the converged table (other widths: bench/codebook_tables.py --energies).
/// The table is taken whose energy is nearest to 1, more exactly to what it has when it is the right one.
///
///   fingerprint.add(codes)    for each block whose norm is not zero: codes of a zero block mean nothing
///   fingerprint.result()
///
/// Below 5 bits the quantization error is larger than the difference: the answer is legacy_b and not confident. Codes
/// of the searched encoder do not keep the mean square, since it moves the scale: the answer is not confident, and
/// their files name the table.
class codebook_fingerprint {
  public:
    /// For codes of 1 to 8 bits; throws shape_error for other widths.
    explicit codebook_fingerprint(int bits) : bits_(bits) {
        HLWQ_EXPECTS(bits >= 1 && bits <= 8, shape_error, "bits of a fingerprint", "1 to 8", bits);
    }

    int bits() const noexcept { return bits_; }
    /// Number of codes seen.
    std::uint64_t count() const noexcept {
        std::uint64_t sum = 0;
        for (const auto n : histogram_) sum += n;
        return sum;
    }

    // promises: every code < 2^bits
    void add(std::span<const std::uint8_t> codes) noexcept {
        for (const auto code : codes) ++histogram_[code];
    }

    /// Adds what another fingerprint of the same width has seen; counts are integers, so any order gives the same.
    void add(const codebook_fingerprint& other) {
        HLWQ_EXPECTS(other.bits_ == bits_, shape_error, "bits of a fingerprint", bits_, other.bits_);
        for (std::size_t k = 0; k < 256; ++k) histogram_[k] += other.histogram_[k];
    }

    codebook_match result() const {
        codebook_match match;
        const auto total = static_cast<double>(count());
        if (total == 0.0) return match;
        std::size_t best = 0;
        double distance[3];
        for (std::size_t t = 0; t < 3; ++t)
            match.energy[t] = energy(codebook_table(static_cast<codebook_id>(t), bits_)) / total;
        if (bits_ < distinguishable_bits) return match;
        for (std::size_t t = 0; t < 3; ++t) {
            distance[t] = std::fabs(match.energy[t] - detail::right_energy[bits_ - distinguishable_bits][t]);
            if (distance[t] < distance[best]) best = t;
        }
        match.id = static_cast<codebook_id>(best);
        double gap = std::numeric_limits<double>::infinity();
        for (std::size_t t = 0; t < 3; ++t)
            if (t != best && distance[t] - distance[best] < gap) gap = distance[t] - distance[best];
        // c^2 - z^2 is about 2 z e with an error e of variance at most 6 * 4^-bits for all three tables.
        const double noise = std::sqrt(24.0 / total) / static_cast<double>(1u << bits_);
        const bool normal_shape = std::fabs(mean_magnitude(match.id) - normal_magnitude) < largest_distance;
        match.confident =
            gap > 6.0 * noise && gap > 2.0 * distance[best] && distance[best] < largest_distance && normal_shape;
        return match;
    }

  private:
    static constexpr int distinguishable_bits = 5;
    // Half of what separates A and B at 5 bits.
    static constexpr double largest_distance = 0.008;
    // Mean of |z|: 0.798 for N(0,1), 0.801 for blocks of 128. Table A with a scale searched near 1.22 has the energy of
    // the converged table, but 0.781 here.
    static constexpr double normal_magnitude = 0.8;

    double mean_magnitude(codebook_id id) const {
        const codebook_view codebook = codebook_table(id, bits_);
        double sum = 0.0;
        for (std::size_t k = 0; k < codebook.size(); ++k)
            sum += static_cast<double>(histogram_[k]) * std::fabs(static_cast<double>(codebook[k]));
        return sum / static_cast<double>(count());
    }

    double energy(codebook_view codebook) const noexcept {
        double sum = 0.0;
        for (std::size_t k = 0; k < codebook.size(); ++k) {
            const auto centroid = static_cast<double>(codebook[k]);
            sum += static_cast<double>(histogram_[k]) * centroid * centroid;
        }
        return sum;
    }

    int bits_;
    std::uint64_t histogram_[256] = {};
};

}  // namespace HLWQ_CODE_NAMESPACE
}  // namespace hlwq
