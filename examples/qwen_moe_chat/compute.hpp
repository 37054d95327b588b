// qwen_moe_chat/compute.hpp — how to compute, and memory for what is computed
#pragma once

#include "hlwq/executor.hpp"
#include "hlwq/matrix_view.hpp"
#include "hlwq/rotated_input.hpp"

#include <cstddef>
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

/// Memory for activations: a matrix of any shape, allocated only when it is larger than all before.
class activations {
  public:
    /// The memory as a matrix of that shape; what it held is lost.
    matrix_view<float> shape(std::size_t rows, std::size_t cols) {
        if (values_.size() < rows * cols) values_.resize(rows * cols);
        return {values_.data(), rows, cols};
    }

  private:
    std::vector<float> values_;
};

}  // namespace qwen
