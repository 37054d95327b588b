// hlwq/hlwq.hpp — Hadamard-Lloyd Weight Quantization: everything that computes, in one include
//
//   config, error, float16, matrix_view, executor     ground: types without an instruction set
//   layout, codebook, lloyd_max, rotation, packing,   formats: where bits lie, what codes mean, H
//   code_reader
//   packed_matrix, repack, rotated_input, quantize    objects: weights and inputs
//   block_dot, row_panel, gemv, gemm                  products straight from packed codes
//
// Not included, because they bring dependencies or threads: hlwq/io/*.hpp (checkpoints; needs nlohmann_json) and
// hlwq/thread_pool.hpp.
//
// Example: examples/quickstart/main.cpp
#pragma once

#include "hlwq/config.hpp"
#include "hlwq/error.hpp"
#include "hlwq/float16.hpp"
#include "hlwq/matrix_view.hpp"
#include "hlwq/executor.hpp"
#include "hlwq/layout.hpp"
#include "hlwq/codebook.hpp"
#include "hlwq/lloyd_max.hpp"
#include "hlwq/rotation.hpp"
#include "hlwq/packing.hpp"
#include "hlwq/code_reader.hpp"
#include "hlwq/packed_matrix.hpp"
#include "hlwq/repack.hpp"
#include "hlwq/rotated_input.hpp"
#include "hlwq/quantize.hpp"
#include "hlwq/block_dot.hpp"
#include "hlwq/row_panel.hpp"
#include "hlwq/gemv.hpp"
#include "hlwq/gemm.hpp"
#include "hlwq/products.hpp"
