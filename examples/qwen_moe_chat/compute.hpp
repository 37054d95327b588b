// qwen_moe_chat/compute.hpp — how to compute, and memory for what is computed
#pragma once

#include "hlwq/executor.hpp"
#include "hlwq/matrix_view.hpp"
#include "hlwq/rotated_input.hpp"

#include <cstddef>
#include <new>
#include <vector>

namespace qwen {

using hlwq::matrix_view;

/// How to compute: on which threads, and how packed codes meet their inputs.
struct compute {
    hlwq::executor_ref threads;
    hlwq::precision mode = hlwq::precision::exact;
    /// In mode precise: products of many tokens with codes of at most 6 bits, whose centroids fit a byte, in mode fast.
    bool fast_prefill = false;
};

/// Memory that begins at a cache line, so that no vector of a row lies in two.
template <class T>
struct line_allocator {
    using value_type = T;
    static constexpr std::align_val_t line{64};

    line_allocator() = default;
    template <class U>
    line_allocator(const line_allocator<U>&) noexcept {}
    T* allocate(std::size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), line)); }
    void deallocate(T* p, std::size_t) noexcept { ::operator delete(p, line); }
    bool operator==(const line_allocator&) const noexcept { return true; }
};
template <class T>
using line_vector = std::vector<T, line_allocator<T>>;

/// Memory for activations: a matrix of any shape, allocated only when it is larger than all before.
class activations {
  public:
    /// The memory as a matrix of that shape; what it held is lost.
    matrix_view<float> shape(std::size_t rows, std::size_t cols) {
        if (values_.size() < rows * cols) values_.resize(rows * cols);
        return {values_.data(), rows, cols};
    }
    float* data() noexcept { return values_.data(); }

  private:
    line_vector<float> values_;
};

}  // namespace qwen
