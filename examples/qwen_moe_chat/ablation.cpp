#include "qwen_moe_chat/ablation.hpp"

#include "hlwq/dispatch/dispatch.hpp"
#include "hlwq/codebook.hpp"
#include "hlwq/error.hpp"
#include "hlwq/float16.hpp"
#include "hlwq/rotation.hpp"
#include "hlwq/io/safetensors_writer.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>

namespace qwen {

namespace {

constexpr std::size_t block = 128;

/// Number of the nearest of evenly spaced values from -1 to 1.
float nearest_even_step(float value, int bits) {
    const float last = static_cast<float>((1 << bits) - 1);
    const float code = std::clamp(std::round((value + 1.0f) * 0.5f * last), 0.0f, last);
    return 2.0f * code / last - 1.0f;
}

float nearest_centroid(float value, hlwq::codebook_view centroids) {
    const auto above = std::lower_bound(centroids.begin(), centroids.end(), value);
    if (above == centroids.begin()) return *above;
    if (above == centroids.end()) return above[-1];
    return value - above[-1] <= *above - value ? above[-1] : *above;
}

void quantize_block(std::span<float, block> x, const quantizer_variant& variant, int bits) {
    if (variant.rotated) hlwq::dispatch::rotate(x, block);
    double energy = 0.0;
    float largest = 0.0f;
    for (const float v : x) {
        energy += static_cast<double>(v) * static_cast<double>(v);
        largest = std::max(largest, std::fabs(v));
    }
    // What is stored, the norm or the largest magnitude, and how much of it a value of 1 stands for: the centroids
    // belong to N(0,1), and a block of norm 1 has values of variance 1 / block.
    const double exact = variant.lloyd_max ? std::sqrt(energy) : static_cast<double>(largest);
    const double unit = variant.lloyd_max ? 1.0 / std::sqrt(static_cast<double>(block)) : 1.0;
    const auto stored = static_cast<float>(hlwq::half(static_cast<float>(exact)));
    const auto restored_unit = static_cast<float>(static_cast<double>(stored) * unit);
    const hlwq::codebook_view centroids = hlwq::codebook_table(hlwq::codebook_id::converged, bits);
    for (float& v : x) {
        const float scaled = exact > 0.0 ? static_cast<float>(static_cast<double>(v) / (exact * unit)) : 0.0f;
        v = restored_unit * (variant.lloyd_max ? nearest_centroid(scaled, centroids) : nearest_even_step(scaled, bits));
    }
    if (variant.rotated) hlwq::dispatch::rotate(x, block);
}

/// `values` of a plain tensor, from element `first` on, as floats.
bool widen(const hlwq::checkpoint::tensor& t, std::size_t first, std::span<float> values) {
    for (std::size_t i = 0; i < values.size(); ++i) {
        const std::byte* at = t.bytes.data() + (first + i) * dtype_size(t.dtype);
        if (t.dtype == hlwq::safetensors::dtype::f32) {
            std::memcpy(&values[i], at, 4);
        } else {
            std::uint16_t bits = 0;
            std::memcpy(&bits, at, 2);
            values[i] =
                t.dtype == hlwq::safetensors::dtype::f16 ? hlwq::half::to_float(bits) : hlwq::bfloat16::to_float(bits);
        }
        if (!std::isfinite(values[i])) return false;
    }
    return true;
}

std::unique_ptr<hlwq::checkpoint::reader> open(std::span<const std::byte> bytes, const std::string& config) {
    const hlwq::checkpoint::memory_file file{"model.safetensors", bytes};
    return std::make_unique<hlwq::checkpoint::reader>(std::span(&file, 1), "", config);
}

}  // namespace

void quantize_row(std::span<float> row, const quantizer_variant& variant, int bits) {
    for (std::size_t begin = 0; begin < row.size(); begin += block) {
        const std::size_t size = std::min(block, row.size() - begin);
        std::array<float, block> x = {};
        std::copy_n(row.begin() + static_cast<std::ptrdiff_t>(begin), size, x.begin());
        quantize_block(x, variant, bits);
        std::copy_n(x.begin(), size, row.begin() + static_cast<std::ptrdiff_t>(begin));
    }
}

altered_model::altered_model(const hlwq::checkpoint::reader& original, const quantizer_variant& variant, int bits,
                             hlwq::executor_ref threads)
    : image_(make(original, variant, bits, threads)), model_(open(image_.bytes, original.config().dump())) {}

altered_model::image altered_model::make(const hlwq::checkpoint::reader& original, const quantizer_variant& variant,
                                         int bits, hlwq::executor_ref threads) {
    using hlwq::checkpoint::decision;
    using hlwq::safetensors::dtype;
    const hlwq::checkpoint::recipe recipe(hlwq::checkpoint::policy_id::published_moe, bits);
    std::vector<hlwq::safetensors::planned_tensor> plan;
    std::vector<bool> altered;
    for (const auto& t : original.tensors()) {
        if (t.quantized) {
            hlwq::throw_error<hlwq::unsupported_error>("tensor " + t.name +
                                                       ": expected weights to quantize, found a quantized matrix");
        }
        altered.push_back(recipe.decide(t.name, t.dtype, t.shape).what == decision::action::quantize);
        plan.push_back({t.name, altered.back() ? dtype::f32 : t.dtype, t.shape});
    }
    const std::string header = hlwq::safetensors::header_bytes(plan, {});
    std::size_t size = header.size();
    for (const auto& t : plan) size += static_cast<std::size_t>(byte_count(t));

    image result;
    result.bytes.resize(size);
    std::memcpy(result.bytes.data(), header.data(), header.size());
    std::byte* to = result.bytes.data() + header.size();
    for (std::size_t k = 0; k < plan.size(); ++k) {
        const auto& t = original.tensors()[k];
        if (!altered[k]) {
            if (!t.bytes.empty()) std::memcpy(to, t.bytes.data(), t.bytes.size());
            to += t.bytes.size();
            continue;
        }
        const auto cols = static_cast<std::size_t>(t.shape.back());
        const std::size_t rows = cols == 0 ? 0 : t.bytes.size() / dtype_size(t.dtype) / cols;
        std::vector<hlwq::quantization_error> errors(rows);
        std::atomic<bool> finite = true;
        std::vector<float> scratch(2 * cols * std::max(1u, threads.concurrency()));
        threads.parallel_for(rows, 1, [&](std::size_t begin, std::size_t end, unsigned worker) noexcept {
            const std::span<float> exact(scratch.data() + 2 * cols * worker, cols);
            const std::span<float> row(exact.data() + cols, cols);
            for (std::size_t r = begin; r < end; ++r) {
                if (!widen(t, r * cols, exact)) {
                    finite = false;
                    return;
                }
                std::ranges::copy(exact, row.begin());
                quantize_row(row, variant, bits);
                for (std::size_t c = 0; c < cols; ++c) {
                    const double difference = static_cast<double>(row[c]) - static_cast<double>(exact[c]);
                    errors[r].error += difference * difference;
                    errors[r].energy += static_cast<double>(exact[c]) * static_cast<double>(exact[c]);
                }
                std::memcpy(to + r * cols * 4, row.data(), cols * 4);
            }
        });
        if (!finite) {
            hlwq::throw_error<hlwq::value_error>("tensor " + t.name +
                                                 ": expected finite weights, found NaN or infinity");
        }
        for (const auto& e : errors) result.error += e;
        to += rows * cols * 4;
    }
    return result;
}

}  // namespace qwen
