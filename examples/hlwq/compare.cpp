// hlwq compare — how far two checkpoints are apart, tensor by tensor, whatever form either has
//
// Matrices are matched by the smallest parts that every form has, `A.experts.<e>.gate_proj.weight` and so on, and
// reported under the names of A. Sums are per row and then in row order, so they do not depend on threads.
#include "hlwq/matrix_view.hpp"
#include "hlwq/packed_matrix.hpp"
#include "hlwq/quantize.hpp"
#include "hlwq/io/checkpoint.hpp"
#include "hlwq/thread_pool.hpp"
#include "hlwq/expert_names.hpp"
#include "hlwq/program.hpp"
#include "hlwq/streaming.hpp"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tool {

namespace {

using hlwq::checkpoint::tensor;
using hlwq::safetensors::dtype;

struct compare_settings : settings {
    std::filesystem::path a, b;
};

/// Consecutive rows of a tensor.
struct unit {
    std::string key;
    std::string owner;  // the tensor that a user knows it as
    const tensor* source = nullptr;
    std::size_t first_row = 0, rows = 0, cols = 0;
    std::vector<std::uint64_t> shape;
};

std::set<std::string> fused_names(const hlwq::checkpoint::reader& model) {
    std::set<std::string> names;
    for (const tensor& t : model.tensors()) {
        if (t.slice) names.insert(t.slice->fused);
    }
    return names;
}

/// All units of a checkpoint; `fused` are the tensors that either checkpoint has slices of.
std::vector<unit> units_of(const hlwq::checkpoint::reader& model, const std::set<std::string>& fused) {
    std::vector<unit> units;
    const auto add = [&](std::string key, const std::string& owner, const tensor& t, std::uint64_t first,
                         std::uint64_t rows, std::uint64_t cols) {
        units.push_back({std::move(key),
                         owner,
                         &t,
                         static_cast<std::size_t>(first),
                         static_cast<std::size_t>(rows),
                         static_cast<std::size_t>(cols),
                         {rows, cols}});
    };
    for (const tensor& t : model.tensors()) {
        if (t.slice) {
            const auto name = parse_fused(t.slice->fused);
            if (!name) {
                add(t.name, t.slice->fused, t, 0, t.packed.rows, t.packed.cols);
                continue;
            }
            for (const expert_part& one : expert_parts(*name, t.slice->index, t.packed.rows)) {
                add(one.name, t.slice->fused, t, one.first_row, one.rows, t.packed.cols);
            }
        } else if (t.quantized) {
            add(t.name, t.name, t, 0, t.packed.rows, t.packed.cols);
        } else if (const auto name = parse_fused(t.name, t.shape)) {
            for (std::uint64_t e = 0; e < t.shape[0]; ++e) {
                for (const expert_part& one : expert_parts(*name, e, t.shape[1])) {
                    add(one.name, t.name, t, e * t.shape[1] + one.first_row, one.rows, t.shape[2]);
                }
            }
        } else if (t.shape.size() == 3 && fused.contains(t.name)) {
            for (std::uint64_t e = 0; e < t.shape[0]; ++e) {
                add(hlwq::checkpoint::slice_name(t.name, e), t.name, t, e * t.shape[1], t.shape[1], t.shape[2]);
            }
        } else {
            const std::size_t count = t.bytes.size() / dtype_size(t.dtype);
            const std::size_t cols = t.shape.empty() ? 1 : static_cast<std::size_t>(t.shape.back());
            units.push_back({t.name, t.name, &t, 0, cols == 0 ? 0 : count / cols, cols, t.shape});
        }
    }
    return units;
}

double e4m3_value(std::uint8_t bits) {
    const int exponent = bits >> 3 & 15, fraction = bits & 7;
    if (exponent == 15 && fraction == 7) return std::numeric_limits<double>::quiet_NaN();
    const double magnitude = exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
    return (bits & 0x80) != 0 ? -magnitude : magnitude;
}

/// `count` elements from `data`, which need not be aligned, as doubles.
void convert(dtype type, const std::byte* data, std::size_t count, double* out) noexcept {
    const auto all = [&]<class T>(T, auto&& value) {
        for (std::size_t k = 0; k < count; ++k) {
            T element;
            std::memcpy(&element, data + k * sizeof(T), sizeof(T));
            out[k] = static_cast<double>(value(element));
        }
    };
    const auto itself = [](auto element) { return element; };
    switch (type) {
        case dtype::bf16: return all(std::uint16_t{}, [](auto w) { return hlwq::bfloat16::to_float(w); });
        case dtype::f16: return all(std::uint16_t{}, [](auto w) { return hlwq::half::to_float(w); });
        case dtype::f32: return all(float{}, itself);
        case dtype::f64: return all(double{}, itself);
        case dtype::i64: return all(std::int64_t{}, itself);
        case dtype::u64: return all(std::uint64_t{}, itself);
        case dtype::i32: return all(std::int32_t{}, itself);
        case dtype::u32: return all(std::uint32_t{}, itself);
        case dtype::i16: return all(std::int16_t{}, itself);
        case dtype::u16: return all(std::uint16_t{}, itself);
        case dtype::i8: return all(std::int8_t{}, itself);
        case dtype::u8:
        case dtype::boolean: return all(std::uint8_t{}, itself);
        case dtype::f8_e4m3: return all(std::uint8_t{}, e4m3_value);
        case dtype::f8_e5m2:
            return all(std::uint8_t{}, [](auto w) { return hlwq::half::to_float(static_cast<std::uint16_t>(w << 8)); });
    }
}

/// Sums from which all figures follow.
struct tally {
    double error = 0.0, a = 0.0, b = 0.0, product = 0.0, largest = 0.0;

    void add(const tally& other) noexcept {
        error += other.error;
        a += other.a;
        b += other.b;
        product += other.product;
        // A NaN stays.
        if (!(other.largest <= largest) && !std::isnan(largest)) largest = other.largest;
    }
    double relative_mse() const noexcept {
        return a > 0.0 ? error / a : error == 0.0 ? 0.0 : std::numeric_limits<double>::infinity();
    }
    double cosine() const noexcept {
        if (a == 0.0 && b == 0.0) return 1.0;
        if (a == 0.0 || b == 0.0) return 0.0;
        return error == 0.0 ? 1.0 : product / (std::sqrt(a) * std::sqrt(b));
    }
};

class comparer {
  public:
    /// `units` are all that will be compared.
    comparer(const std::vector<const unit*>& units, const memory_budget& budget, hlwq::thread_pool& pool)
        : budget_(budget), pool_(pool) {
        // At once, since a vector that grows holds its old and its new memory together.
        std::size_t values = 0, rows = 0;
        for (const unit* u : units) {
            const std::size_t count = std::min(u->rows, budget.rows(row_bytes(*u)));
            values = std::max(values, count * u->cols);
            rows = std::max(rows, count);
        }
        values_a_.resize(values);
        values_b_.resize(values);
        rows_.resize(rows);
    }

    static std::uint64_t row_bytes(const unit& u) {
        return u.cols * (2 * sizeof(double) + sizeof(double)) + sizeof(tally) + 256;
    }

    /// Calls `passed(weights, bytes of a, bytes of b)` behind every step.
    template <class F>
    tally compare(const unit& a, const unit& b, F&& passed) {
        tally sum;
        const std::size_t step = budget_.rows(row_bytes(a));
        for (std::size_t row = 0; row < a.rows; row += step) {
            check_interrupted();
            const std::size_t count = std::min(step, a.rows - row);
            const std::uint64_t read_a = load(a, row, count, values_a_);
            const std::uint64_t read_b = load(b, row, count, values_b_);
            pool_.parallel_for(count, 1, [&](std::size_t begin, std::size_t end, unsigned) noexcept {
                for (std::size_t r = begin; r < end; ++r) {
                    rows_[r] = compare_row(values_a_.data() + r * a.cols, values_b_.data() + r * a.cols, a.cols);
                }
            });
            for (std::size_t r = 0; r < count; ++r) sum.add(rows_[r]);
            passed(count * a.cols, read_a, read_b);
        }
        return sum;
    }

  private:
    static tally compare_row(const double* a, const double* b, std::size_t cols) noexcept {
        tally t;
        for (std::size_t k = 0; k < cols; ++k) {
            if (std::isnan(a[k]) && std::isnan(b[k])) continue;
            // Equal infinities differ by nothing.
            const double difference = a[k] == b[k] ? 0.0 : a[k] - b[k];
            t.error += difference * difference;
            t.a += a[k] * a[k];
            t.b += b[k] * b[k];
            t.product += a[k] * b[k];
            if (!(std::fabs(difference) <= t.largest) && !std::isnan(t.largest)) t.largest = std::fabs(difference);
        }
        return t;
    }

    /// Rows of `u` as doubles; returns the bytes that were read for them.
    std::uint64_t load(const unit& u, std::size_t row, std::size_t count, std::vector<double>& to) {
        row += u.first_row;
        if (u.source->quantized) {
            hlwq::packed_matrix_view w = u.source->packed;
            const std::size_t row_codes = w.format.row_bytes(w.cols), blocks = w.format.blocks_per_row(w.cols);
            w.rows = count;
            w.codes = w.codes.subspan(row * row_codes, count * row_codes);
            w.norms = w.norms.subspan(row * blocks, count * blocks);
            hlwq::dequantize(w, hlwq::matrix_view<double>(to.data(), count, u.cols), pool_, u.source->name);
            return w.codes.size() + w.norms.size_bytes();
        }
        const std::size_t row_bytes = u.cols * dtype_size(u.source->dtype);
        const std::byte* data = u.source->bytes.data() + row * row_bytes;
        pool_.parallel_for(count, 1, [&](std::size_t begin, std::size_t end, unsigned) noexcept {
            convert(u.source->dtype, data + begin * row_bytes, (end - begin) * u.cols, to.data() + begin * u.cols);
        });
        return count * row_bytes;
    }

    const memory_budget& budget_;
    hlwq::thread_pool& pool_;
    std::vector<double> values_a_, values_b_;
    std::vector<tally> rows_;
};

struct result {
    std::vector<std::pair<std::string, tally>> tensors;  // worst first
    tally all;
    std::vector<std::string> missing_in_a, missing_in_b, different_shapes;
};

/// Units that the other side lacks, as whole tensors where all of a tensor is missing.
std::vector<std::string> missing(const std::vector<unit>& here,
                                 const std::unordered_map<std::string, const unit*>& there) {
    std::map<std::string, std::pair<std::vector<std::string>, std::size_t>> owners;
    for (const unit& u : here) {
        auto& [lacking, count] = owners[u.owner];
        ++count;
        if (!there.contains(u.key)) lacking.push_back(u.key);
    }
    std::vector<std::string> names;
    for (auto& [owner, found] : owners) {
        if (found.first.size() == found.second) {
            names.push_back(owner);
        } else {
            names.insert(names.end(), found.first.begin(), found.first.end());
        }
    }
    return names;
}

std::string shape_text(const std::vector<std::uint64_t>& shape) {
    std::string text = "[";
    for (std::size_t k = 0; k < shape.size(); ++k) text += (k == 0 ? "" : ", ") + std::to_string(shape[k]);
    return text + "]";
}

result compare_all(const compare_settings& s, const hlwq::checkpoint::reader& a, const hlwq::checkpoint::reader& b) {
    std::set<std::string> fused = fused_names(a);
    fused.merge(fused_names(b));
    const std::vector<unit> units_a = units_of(a, fused), units_b = units_of(b, fused);
    std::unordered_map<std::string, const unit*> by_key_a, by_key_b;
    for (const unit& u : units_a) by_key_a.emplace(u.key, &u);
    for (const unit& u : units_b) by_key_b.emplace(u.key, &u);

    result found;
    found.missing_in_b = missing(units_a, by_key_b);
    found.missing_in_a = missing(units_b, by_key_a);
    mapped_pages pages_a(a), pages_b(b);
    pages_a.release();
    pages_b.release();
    hlwq::thread_pool pool(s.thread_count());
    std::uint64_t row = 0, scratch = 0, weights = 0;
    std::vector<const unit*> compared;
    for (const unit& u : units_a) {
        const auto other = by_key_b.find(u.key);
        if (other == by_key_b.end() || u.shape != other->second->shape) continue;
        row = std::max(row, comparer::row_bytes(u));
        scratch = std::max<std::uint64_t>(scratch, pool.concurrency() * (u.cols + hlwq::max_block) * sizeof(float));
        weights += u.rows * u.cols;
        compared.push_back(&u);
    }
    // Pages of both sides; each side gives back on its own.
    const memory_budget budget(parse_size(s.max_ram, "--max-ram"), scratch, row);
    pages_a.set_limit(budget.pages() / 2);
    pages_b.set_limit(budget.pages() / 2);
    comparer work(compared, budget, pool);
    console::progress bar("compare", "weights", weights, 0);
    std::unordered_map<std::string, std::size_t> place;
    for (const unit& u : units_a) {
        const auto other = by_key_b.find(u.key);
        if (other == by_key_b.end()) continue;
        if (u.shape != other->second->shape) {
            found.different_shapes.push_back(u.key + ": " + shape_text(u.shape) + " and " +
                                             shape_text(other->second->shape));
            continue;
        }
        const tally t =
            work.compare(u, *other->second, [&](std::uint64_t count, std::uint64_t bytes_a, std::uint64_t bytes_b) {
                pages_a.passed(bytes_a);
                pages_b.passed(bytes_b);
                bar.advance(count, 0, u.owner);
            });
        const auto [at, added] = place.emplace(u.owner, found.tensors.size());
        if (added) found.tensors.emplace_back(u.owner, tally{});
        found.tensors[at->second].second.add(t);
        found.all.add(t);
    }
    bar.clear();
    std::stable_sort(found.tensors.begin(), found.tensors.end(), [](const auto& x, const auto& y) {
        const double left = x.second.relative_mse(), right = y.second.relative_mse();
        if (std::isnan(left) || std::isnan(right)) return std::isnan(left) && !std::isnan(right);
        return left != right ? left > right : x.first < y.first;
    });
    return found;
}

/// JSON knows no NaN and no infinity: null.
nlohmann::json figure(double value) { return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(nullptr); }

void print_json(const result& found) {
    nlohmann::json tensors = nlohmann::json::array();
    for (const auto& [name, t] : found.tensors) {
        tensors.push_back({{"name", name},
                           {"relative_mse", figure(t.relative_mse())},
                           {"cosine", figure(t.cosine())},
                           {"max_abs", figure(t.largest)}});
    }
    const nlohmann::json object{{"relative_mse", figure(found.all.relative_mse())},
                                {"cosine", figure(found.all.cosine())},
                                {"max_abs", figure(found.all.largest)},
                                {"tensors", std::move(tensors)},
                                {"missing_in_a", found.missing_in_a},
                                {"missing_in_b", found.missing_in_b},
                                {"different_shapes", found.different_shapes}};
    std::printf("%s\n", object.dump(1).c_str());
}

void print_list(const char* title, const std::vector<std::string>& names) {
    if (names.empty()) return;
    std::printf("\n%s: %zu\n", title, names.size());
    for (std::size_t k = 0; k < names.size() && k < 20; ++k) std::printf("  %s\n", names[k].c_str());
    if (names.size() > 20) std::printf("  and %zu more\n", names.size() - 20);
}

void print_text(const result& found) {
    constexpr std::size_t shown = 20;
    std::size_t equal = 0;
    for (const auto& entry : found.tensors) equal += entry.second.largest == 0.0 ? 1 : 0;
    std::printf("%zu tensors compared, %zu of them equal\n", found.tensors.size(), equal);
    std::printf("relative MSE %.4e, cosine %.8f, largest difference %.4e\n", found.all.relative_mse(),
                found.all.cosine(), found.all.largest);
    if (equal < found.tensors.size())
        std::printf("\n%12s %12s %12s  tensor, worst first\n", "rel. MSE", "cosine", "max");
    for (std::size_t k = 0; k < found.tensors.size() && k < shown; ++k) {
        const auto& [name, t] = found.tensors[k];
        if (t.largest == 0.0) break;
        std::printf("%12.4e %12.8f %12.4e  %s\n", t.relative_mse(), t.cosine(), t.largest, name.c_str());
    }
    print_list("missing in A", found.missing_in_a);
    print_list("missing in B", found.missing_in_b);
    print_list("different shapes", found.different_shapes);
}

void run(const compare_settings& s) {
    const hlwq::checkpoint::reader a(s.a), b(s.b);
    const result found = compare_all(s, a, b);
    s.json ? print_json(found) : print_text(found);
}

}  // namespace

void add_compare(CLI::App& app) {
    auto s = std::make_shared<compare_settings>();
    CLI::App* command = app.add_subcommand("compare", "how far two checkpoints are apart");
    command->add_option("A_DIR", s->a, "the reference")->required();
    command->add_option("B_DIR", s->b, "what is compared with it")->required();
    add_options(*command, static_cast<settings&>(*s));
    command->callback([s] { run(*s); });
}

}  // namespace tool
