#include <hlwq/hlwq.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

int main() {
    // A weight matrix of 64 rows (outputs) and 512 columns (inputs), and an input.
    const std::size_t rows = 64, cols = 512;
    std::vector<float> weights(rows * cols), x(cols), y(rows);
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = std::sin(static_cast<float>(i * i % 1009));
    for (std::size_t i = 0; i < cols; ++i) x[i] = std::sin(static_cast<float>(i * i * i % 997));
    const hlwq::matrix_view<const float> w(weights.data(), rows, cols);

    // 5 bits a weight and a half-precision norm per 128: 5.125 bits in all.
    const hlwq::codebook_view centroids = hlwq::codebook_table(hlwq::codebook_id::legacy_a, 5);
    const hlwq::packed_matrix q = hlwq::quantize(w, centroids);
    std::printf("relative squared error of the weights: %.5f\n", hlwq::measure_error(w, q.view()).relative_mse());

    // The product, straight from the packed codes: the input is rotated once and serves every matrix that reads it.
    hlwq::rotated_input input(cols, hlwq::precision::exact, q.format());
    hlwq::rotate_input(x, input);
    hlwq::gemv(q.view(), input, y);

    double error = 0.0, energy = 0.0;
    for (std::size_t row = 0; row < rows; ++row) {
        double exact = 0.0;
        for (std::size_t col = 0; col < cols; ++col) exact += static_cast<double>(w.row(row)[col] * x[col]);
        error += (exact - static_cast<double>(y[row])) * (exact - static_cast<double>(y[row]));
        energy += exact * exact;
    }
    std::printf("relative squared error of the product: %.5f (%s, %s)\n", error / energy, hlwq::isa_name(),
                hlwq::backend_name());
    return error / energy < 0.01 ? 0 : 1;
}
