// The adapters that executor.hpp shows, as they stand there, over the pools that they adapt.
#include "hlwq/executor.hpp"

#include "hlwq/gemm.hpp"
#include "hlwq/gemv.hpp"
#include "matrices.hpp"
#include "reference.hpp"

#include <doctest/doctest.h>

#if defined(TEST_OPENMP)
#include <omp.h>
#endif
#if defined(TEST_TBB)
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/task_arena.h>
#endif

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <span>
#include <vector>

namespace {

#if defined(TEST_OPENMP)
struct openmp_executor {
    unsigned concurrency() const { return static_cast<unsigned>(omp_get_max_threads()); }
    template <class F>
    void parallel_for(std::size_t count, std::size_t grain, F&& body) const {
        const auto shares = hlwq::share_count(count, grain, concurrency());
#pragma omp parallel for schedule(static, 1)
        for (unsigned k = 0; k < shares; ++k) {
            const auto [begin, end] = hlwq::share_of(count, grain, shares, k);
            body(begin, end, k);
        }
    }
};
static_assert(hlwq::executor<openmp_executor> && hlwq::executor<const openmp_executor>);
#endif

#if defined(TEST_TBB)
struct tbb_executor {
    unsigned concurrency() const { return static_cast<unsigned>(tbb::this_task_arena::max_concurrency()); }
    template <class F>
    void parallel_for(std::size_t count, std::size_t grain, F&& body) const {
        const auto shares = hlwq::share_count(count, grain, concurrency());
        const auto share = [&](unsigned k) {
            const auto [begin, end] = hlwq::share_of(count, grain, shares, k);
            body(begin, end, k);
        };
        tbb::parallel_for(0u, shares, share, tbb::static_partitioner());
    }
};
static_assert(hlwq::executor<tbb_executor> && hlwq::executor<const tbb_executor>);
#endif

/// Rotation, products of one token and of many, as the calling thread and as `ex` compute them.
template <class E>
void compare_with_serial(const E& ex) {
    constexpr std::size_t rows = 1003, cols = 900, tokens = 13;
    const auto x = reference::gaussians(tokens * cols, 5);
    const hlwq::matrix_view<const float> all(x.data(), tokens, cols);
    for (const hlwq::precision mode : {hlwq::precision::exact, hlwq::precision::fast, hlwq::precision::precise}) {
        const matrix w(rows, cols, format_of(5, hlwq::layout_id::wire, 128));
        hlwq::rotated_input one(cols, mode, w.view().format), many(cols, mode, w.view().format, tokens);
        std::vector<float> y(rows), ys(tokens * rows), through_ref(rows);
        const auto products = [&](const auto& executor) {
            hlwq::rotate_input(all.row(3), one, executor);
            hlwq::rotate_input(all, many, executor);
            hlwq::gemv(w.view(), one, std::span<float>(y), executor);
            hlwq::gemm(w.view(), many, hlwq::matrix_view<float>(ys.data(), tokens, rows), mode, executor);
        };
        products(hlwq::serial_executor());
        const auto serial = y, serials = ys;
        for (int times = 0; times < 5; ++times) {
            std::fill(y.begin(), y.end(), -1.0f);
            std::fill(ys.begin(), ys.end(), -1.0f);
            products(ex);
            CHECK(same_bits(y, serial));
            CHECK(same_bits(ys, serials));
            hlwq::gemv(w.view(), one, std::span<float>(through_ref), hlwq::executor_ref(ex));
            CHECK(same_bits(through_ref, serial));
        }
    }
}

/// Each index once, every begin a multiple of the grain, no worker index twice at once.
template <class E>
void check_contract(const E& ex) {
    for (const std::size_t count : {0u, 1u, 7u, 1000u}) {
        for (const std::size_t grain : {1u, 3u, 64u}) {
            std::vector<std::atomic<int>> visits(count), inside(ex.concurrency());
            std::atomic<bool> sound = true;
            ex.parallel_for(count, grain, [&](std::size_t begin, std::size_t end, unsigned worker) noexcept {
                if (worker >= inside.size() || inside[worker].fetch_add(1) != 0 || begin % grain != 0) sound = false;
                for (std::size_t i = begin; i < end; ++i) visits[i].fetch_add(1);
                if (worker < inside.size()) inside[worker].fetch_sub(1);
            });
            CHECK(sound);
            for (const auto& times : visits) CHECK(times == 1);
        }
    }
}

}  // namespace

#if defined(TEST_OPENMP)
TEST_CASE("OpenMP") {
    for (const int threads : {1, 2, 3, 5}) {
        omp_set_num_threads(threads);
        const openmp_executor ex;
        REQUIRE(ex.concurrency() == static_cast<unsigned>(threads));
        check_contract(ex);
        compare_with_serial(ex);
    }
}
#endif

#if defined(TEST_TBB)
TEST_CASE("oneTBB") {
    const tbb::global_control workers(tbb::global_control::max_allowed_parallelism, 5);  // whatever the processors
    for (const int threads : {1, 2, 3, 5}) {
        tbb::task_arena arena(threads);
        arena.execute([&] {
            const tbb_executor ex;
            REQUIRE(ex.concurrency() == static_cast<unsigned>(threads));
            check_contract(ex);
            compare_with_serial(ex);
        });
    }
}
#endif
