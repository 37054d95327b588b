// A checkpoint in memory that tests build and bend, and how close decoded weights must be.
#pragma once

#include "hlwq/io/checkpoint.hpp"
#include "hlwq/quantize.hpp"
#include "hlwq/io/safetensors.hpp"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace checkpoint_tests {

/// A checkpoint in memory that tests bend: tensors by name, and the two configurations.
struct draft {
    using dtype = hlwq::safetensors::dtype;
    using json = nlohmann::json;
    struct entry {
        dtype type;
        std::vector<std::uint64_t> shape;
        std::vector<std::byte> bytes;
    };
    std::map<std::string, entry> tensors;
    json polar, config;

    template <class T>
    void put(const std::string& name, dtype type, std::vector<std::uint64_t> shape, const std::vector<T>& values) {
        entry& e = tensors[name] = {type, std::move(shape), std::vector<std::byte>(values.size() * sizeof(T))};
        if (!values.empty()) std::memcpy(e.bytes.data(), values.data(), e.bytes.size());
    }

    std::vector<std::byte> file(std::size_t shift = 0) const {
        json header = json::object();
        std::vector<std::byte> data;
        for (const auto& [name, e] : tensors) {
            header[name] = {{"dtype", hlwq::safetensors::dtype_name(e.type)},
                            {"shape", e.shape},
                            {"data_offsets", {data.size(), data.size() + e.bytes.size()}}};
            data.insert(data.end(), e.bytes.begin(), e.bytes.end());
        }
        std::string text = header.dump() + std::string(shift, ' ');
        const std::uint64_t size = text.size();
        std::vector<std::byte> whole(8 + text.size());
        std::memcpy(whole.data(), &size, 8);
        std::memcpy(whole.data() + 8, text.data(), text.size());
        whole.insert(whole.end(), data.begin(), data.end());
        return whole;
    }

    /// Calls `f(reader)` on the checkpoint.
    template <class F>
    void open(F&& f, std::size_t shift = 0) const {
        const auto bytes = file(shift);
        const hlwq::checkpoint::memory_file files[] = {{"draft.safetensors", bytes}};
        const hlwq::checkpoint::reader model(files, polar.is_null() ? "" : polar.dump(),
                                             config.is_null() ? "" : config.dump());
        f(model);
    }

    /// The message of the format_error that opening throws; empty if it throws none.
    std::string refusal() const {
        try {
            open([](const hlwq::checkpoint::reader&) {});
        } catch (const hlwq::format_error& e) {
            return e.what();
        }
        return {};
    }
};

inline std::vector<float> dequantized(const hlwq::checkpoint::tensor& t) {
    std::vector<float> w(t.packed.rows * t.packed.cols);
    hlwq::dequantize(t.packed, hlwq::matrix_view<float>(w.data(), t.packed.rows, t.packed.cols));
    return w;
}

/// A butterfly of seven steps adds at most 7 eps times the block's norm, scaling two more roundings.
inline void require_close(std::span<const float> found, std::span<const float> expected, std::size_t cols) {
    REQUIRE(found.size() == expected.size());
    for (std::size_t row = 0; row * cols < found.size(); ++row) {
        double squares = 0.0;
        for (std::size_t c = 0; c < cols; ++c) squares += std::pow(double{expected[row * cols + c]}, 2);
        for (std::size_t c = 0; c < cols; ++c) {
            const std::size_t i = row * cols + c;
            REQUIRE(std::fabs(double{found[i]} - double{expected[i]}) <= 1.2e-6 * std::sqrt(squares));
        }
    }
}

}  // namespace checkpoint_tests
