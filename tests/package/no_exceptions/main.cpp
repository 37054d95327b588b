// The core without exceptions and without type information: a bad call ends in the handler.
#include <hlwq/hlwq.hpp>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

int main() {
    std::vector<float> weights(256, 0.25f), restored(255);
    const auto centroids = hlwq::codebook_table(hlwq::codebook_id::legacy_a, 5);
    const hlwq::packed_matrix packed =
        hlwq::quantize(hlwq::matrix_view<const float>(weights.data(), 2, 128), centroids);

    hlwq::fatal_handler = [](const char* message) {
        std::printf("handler: %s\n", message);
        std::exit(std::strstr(message, "expected") != nullptr && std::strstr(message, "found") != nullptr ? 0 : 1);
    };
    hlwq::dequantize(packed.view(), hlwq::matrix_view<float>(restored.data(), 1, 128));  // one row too few
    std::printf("the bad call returned\n");
    return 1;
}
