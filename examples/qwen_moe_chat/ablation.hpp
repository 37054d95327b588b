// qwen_moe_chat/ablation.hpp — what each step of the method is worth: the model with its matrices quantized one way or
// another at equal bits, and run
//
// HLWQ takes two steps that a plain quantizer does not: it rotates every block, and it rounds to Lloyd-Max centroids
// instead of evenly spaced values. Each can be left out:
//   absmax              2^bits evenly spaced values from -m to m, m the block's largest magnitude
//   absmax + rotation   the same behind the rotation
//   Lloyd-Max           centroids of N(0,1), the block scaled by its norm, without rotation
//   HLWQ                both: what hlwq::quantize writes with the converged table and the nearest encoder
// All four store one code a weight and one 16-bit scale a block of 128, so they differ in nothing but the two steps.
#pragma once

#include "qwen_moe_chat/model.hpp"

#include "hlwq/executor.hpp"
#include "hlwq/quantize.hpp"
#include "hlwq/io/recipe.hpp"

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qwen {

/// A way to quantize.
struct quantizer_variant {
    std::string_view name;
    bool rotated = false;
    bool lloyd_max = false;
};

/// The four of them, weakest first.
inline constexpr quantizer_variant ablation_variants[] = {{"absmax", false, false},
                                                          {"absmax + rotation", true, false},
                                                          {"Lloyd-Max", false, true},
                                                          {"HLWQ (both)", true, true}};

/// The values that are stored for `row`, restored: blocks of 128, the last one filled up with zeros. The scale is
/// rounded to fp16. The values are changed in place; any length.
void quantize_row(std::span<float> row, const quantizer_variant& variant, int bits);

/// A model whose matrices are what `variant` restores, as f32 in memory; everything else as in `original`.
class altered_model {
  public:
    /// Quantizes the matrices that the default policy quantizes. Throws unsupported_error if `original` is not plain,
    /// value_error for weights that are not finite.
    altered_model(const hlwq::checkpoint::reader& original, const quantizer_variant& variant, int bits,
                  hlwq::executor_ref threads);

    const qwen::model& model() const noexcept { return model_; }
    /// Error over all quantized matrices.
    const hlwq::quantization_error& error() const noexcept { return image_.error; }

  private:
    struct image {
        std::vector<std::byte> bytes;  // a safetensors file
        hlwq::quantization_error error;
    };
    static image make(const hlwq::checkpoint::reader& original, const quantizer_variant& variant, int bits,
                      hlwq::executor_ref threads);

    image image_;
    qwen::model model_;
};

}  // namespace qwen
