#include "hlwq/matrix_view.hpp"

#include <doctest/doctest.h>

#include <numeric>
#include <vector>

TEST_CASE("rows of a strided view") {
    std::vector<int> data(20);
    std::iota(data.begin(), data.end(), 0);
    const hlwq::matrix_view<int> view(data.data(), 3, 4, 6);
    CHECK(view.row(0).size() == 4);
    CHECK(view.row(2)[3] == 15);
    const hlwq::matrix_view<const int> constant = view;
    CHECK(constant.row(1)[0] == 6);
    const auto middle = view.rows_between(1, 3);
    CHECK(middle.rows == 2);
    CHECK(middle.row(1)[0] == 12);
    view.row(0)[1] = 77;
    CHECK(data[1] == 77);
}

TEST_CASE("slices of a fused tensor") {
    std::vector<float> data(2 * 3 * 4);
    std::iota(data.begin(), data.end(), 0.0f);
    const hlwq::tensor3_view<const float> experts{data.data(), 2, 3, 4};
    const auto second = experts.slice(1);
    CHECK(second.rows == 3);
    CHECK(second.cols == 4);
    CHECK(second.row(2)[3] == 23.0f);
}
