// tests/qwen/golden.hpp — reference results, and models to compare with them
#pragma once

#include "qwen_moe_chat/model.hpp"

#include "hlwq/io/file.hpp"
#include "hlwq/io/safetensors.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace golden {

namespace fs = std::filesystem;
using hlwq::matrix_view;

inline fs::path data_folder() { return HLWQ_TEST_DATA; }

inline nlohmann::json read_json(const fs::path& path) { return nlohmann::json::parse(hlwq::io::read_text_file(path)); }

/// Floats as rows of their last dimension.
struct rows {
    std::vector<float> values;
    std::size_t cols = 0;

    std::size_t count() const { return values.size() / cols; }
    matrix_view<const float> view() const { return {values.data(), count(), cols}; }
    matrix_view<const float> slice(std::size_t index, std::size_t height) const {
        return {values.data() + index * height * cols, height, cols};
    }
};

/// A file of reference results.
class results {
  public:
    explicit results(const fs::path& path) : file_(path) {}

    bool has(const std::string& name) const { return file_.find(name) != nullptr; }
    rows floats(const std::string& name) const {
        const auto& t = tensor(name, hlwq::safetensors::dtype::f32);
        rows r;
        r.values.resize(t.bytes.size() / sizeof(float));
        std::memcpy(r.values.data(), t.bytes.data(), t.bytes.size());
        r.cols = t.shape.back();
        return r;
    }
    std::vector<std::uint32_t> integers(const std::string& name) const {
        const auto& t = tensor(name, hlwq::safetensors::dtype::i64);
        std::vector<std::int64_t> wide(t.bytes.size() / sizeof(std::int64_t));
        std::memcpy(wide.data(), t.bytes.data(), t.bytes.size());
        return {wide.begin(), wide.end()};
    }
    std::vector<std::uint64_t> shape(const std::string& name) const { return file_.find(name)->shape; }

  private:
    const hlwq::safetensors::tensor_info& tensor(const std::string& name, hlwq::safetensors::dtype type) const {
        const auto* t = file_.find(name);
        REQUIRE_MESSAGE(t != nullptr, name);
        REQUIRE(t->type == type);
        return *t;
    }
    hlwq::safetensors::reader file_;
};

/// Largest difference over the largest magnitude expected; infinite if shapes differ or anything is not a number.
inline double distance(matrix_view<const float> found, matrix_view<const float> expected) {
    if (found.rows != expected.rows || found.cols != expected.cols) return std::numeric_limits<double>::infinity();
    double most = 0.0, scale = 1e-30;
    for (std::size_t r = 0; r < found.rows; ++r) {
        for (std::size_t c = 0; c < found.cols; ++c) {
            const double difference = std::fabs(double{found.row(r)[c]} - double{expected.row(r)[c]});
            if (std::isnan(difference)) return std::numeric_limits<double>::infinity();
            most = std::max(most, difference);
            scale = std::max(scale, std::fabs(double{expected.row(r)[c]}));
        }
    }
    return most / scale;
}

inline qwen::token_id best(std::span<const float> logits) {
    return static_cast<qwen::token_id>(std::ranges::max_element(logits) - logits.begin());
}

/// Mean Kullback-Leibler divergence of the rows' distributions, in nats.
inline double divergence(matrix_view<const float> base, matrix_view<const float> other) {
    double sum = 0.0;
    for (std::size_t r = 0; r < base.rows; ++r) {
        const auto log_sum = [](std::span<const float> x) {
            const double most = *std::ranges::max_element(x);
            double total = 0.0;
            for (const float value : x) total += std::exp(value - most);
            return most + std::log(total);
        };
        const double p = log_sum(base.row(r)), q = log_sum(other.row(r));
        for (std::size_t c = 0; c < base.cols; ++c) {
            const double log_p = base.row(r)[c] - p;
            sum += std::exp(log_p) * (log_p - (other.row(r)[c] - q));
        }
    }
    return sum / static_cast<double>(base.rows);
}

/// A model with what a forward pass needs.
struct runner {
    explicit runner(const qwen::model& m, hlwq::precision mode = hlwq::precision::exact)
        : model(&m), space(m.config()), how{serial, mode} {}

    /// Feeds tokens and appends their logits.
    void feed(std::span<const qwen::token_id> ids, qwen::sequence_state& state, rows& logits,
              std::span<const qwen::rope_position> positions = {}) {
        const qwen::sequence_input input{ids, &state, positions};
        const auto h = model->forward({&input, 1}, space, how);
        hidden.cols = h.cols;
        hidden.values.insert(hidden.values.end(), h.data, h.data + h.rows * h.cols);
        append_logits(h, logits);
    }
    void append_logits(matrix_view<const float> h, rows& logits) {
        logits.cols = model->config().vocabulary;
        const std::size_t before = logits.values.size();
        logits.values.resize(before + h.rows * logits.cols);
        model->logits(h, {logits.values.data() + before, h.rows, logits.cols}, space, how);
    }
    /// Logits of a sequence fed in pieces; the last size repeats until the end.
    rows logits_of(std::span<const qwen::token_id> ids, std::vector<std::size_t> pieces) {
        qwen::sequence_state state(model->config(), qwen::kv_type_for(how.mode));
        rows logits;
        for (std::size_t at = 0, i = 0; at < ids.size(); ++i) {
            const std::size_t size = std::min(pieces[std::min(i, pieces.size() - 1)], ids.size() - at);
            feed(ids.subspan(at, size), state, logits);
            at += size;
        }
        return logits;
    }

    const qwen::model* model;
    qwen::workspace space;
    hlwq::serial_executor serial;
    qwen::compute how;
    rows hidden;  // everything that was fed
};

/// One of the models with reference results.
struct reference {
    explicit reference(const fs::path& folder)
        : name(folder.filename().string()),
          model(folder),
          results(folder / "golden_ref64.safetensors"),
          facts(read_json(folder / "golden.json")) {}

    std::string name;
    qwen::model model;
    golden::results results;
    nlohmann::json facts;
};

/// Says once that a model is not at hand.
inline void remark_skipped() {
    static const bool said = [] {
        MESSAGE("moe_realheads skipped: HLWQ_QWEN_GOLDEN is not set");
        return true;
    }();
    static_cast<void>(said);
}

/// Calls f with every reference model. The one with the head sizes of the real models is too large for the repository:
/// the environment variable HLWQ_QWEN_GOLDEN names a folder that holds it.
template <class F>
void for_each_model(F f) {
    for (const char* name : {"moe_tiny", "dense_tiny"}) {
        CAPTURE(name);
        f(reference(data_folder() / name));
    }
    if (const char* folder = std::getenv("HLWQ_QWEN_GOLDEN")) {
        f(reference(fs::path(folder) / "moe_realheads"));
    } else {
        remark_skipped();
    }
}

}  // namespace golden
