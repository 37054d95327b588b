// The obvious version of everything, in double: dense Hadamard matrices, quadratic search, bits one by one.
// Fast paths are compared with it; it includes nothing of ours and shares no code with them.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace reference {

/// Entry of the unnormalised Sylvester matrix: (-1)^(number of common one bits).
inline double hadamard(std::size_t row, std::size_t col) { return std::popcount(row & col) % 2 == 0 ? 1.0 : -1.0; }

/// H x / sqrt(n), by the dense matrix.
inline std::vector<double> rotate(std::span<const double> x) {
    std::vector<double> y(x.size(), 0.0);
    for (std::size_t i = 0; i < x.size(); ++i) {
        for (std::size_t j = 0; j < x.size(); ++j) y[i] += hadamard(i, j) * x[j];
        y[i] /= std::sqrt(static_cast<double>(x.size()));
    }
    return y;
}

/// Index of the nearest centroid; ties take the lowest.
inline std::uint8_t nearest(double z, std::span<const float> centroids) {
    std::size_t best = 0;
    for (std::size_t k = 1; k < centroids.size(); ++k) {
        if (std::fabs(z - static_cast<double>(centroids[k])) < std::fabs(z - static_cast<double>(centroids[best]))) {
            best = k;
        }
    }
    return static_cast<std::uint8_t>(best);
}

/// A small generator whose sequence is the same everywhere.
class random {
  public:
    explicit random(std::uint64_t seed) : state_(seed) {}
    std::uint64_t next() {
        std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
        return z ^ (z >> 31);
    }
    std::size_t below(std::size_t n) { return static_cast<std::size_t>(next() % n); }
    /// Uniform in [0, 1).
    double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
    double gaussian() {
        const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
        return radius * std::cos(2.0 * 3.14159265358979323846 * uniform());
    }

  private:
    std::uint64_t state_;
};

inline std::vector<float> gaussians(std::size_t count, std::uint64_t seed) {
    random source(seed);
    std::vector<float> x(count);
    for (float& v : x) v = static_cast<float>(source.gaussian());
    return x;
}

}  // namespace reference
