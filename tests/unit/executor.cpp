#include "hlwq/executor.hpp"

#include "reference.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <vector>

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace {

/// Runs the shares of a number of workers one after the other, last worker first.
struct backward_executor {
    unsigned workers;
    unsigned concurrency() const { return workers; }
    template <class F>
    void parallel_for(std::size_t count, std::size_t grain, F&& body) {
        const unsigned shares = hlwq::share_count(count, grain, workers);
        for (unsigned k = shares; k-- > 0;) {
            const auto [begin, end] = hlwq::share_of(count, grain, shares, k);
            body(begin, end, k);
        }
    }
};
static_assert(hlwq::executor<backward_executor>);
static_assert(!hlwq::executor<int>);
static_assert(std::is_trivially_copyable_v<hlwq::executor_ref>);

// The adapter that executor.hpp shows. Without OpenMP its pragma is ignored and the shares run in order.
struct openmp_executor {
    unsigned concurrency() const {
#if defined(_OPENMP)
        return static_cast<unsigned>(omp_get_max_threads());
#else
        return 3;
#endif
    }
    template <class F>
    void parallel_for(std::size_t count, std::size_t grain, F&& body) const {
        const auto shares = hlwq::share_count(count, grain, concurrency());
#if defined(_OPENMP)
#pragma omp parallel for schedule(static, 1)
#endif
        for (unsigned k = 0; k < shares; ++k) {
            const auto [begin, end] = hlwq::share_of(count, grain, shares, k);
            body(begin, end, k);
        }
    }
};
static_assert(hlwq::executor<openmp_executor> && hlwq::executor<const openmp_executor>);

/// How often each index was visited.
template <class E>
std::vector<int> visits(E&& ex, std::size_t count, std::size_t grain) {
    std::vector<int> seen(count, 0);
    const unsigned workers = ex.concurrency();
    ex.parallel_for(count, grain, [&](std::size_t begin, std::size_t end, unsigned worker) noexcept {
        if (worker < workers && begin < end && end <= count && (grain == 0 || begin % grain == 0)) {
            for (std::size_t i = begin; i < end; ++i) ++seen[i];
        }
    });
    return seen;
}

}  // namespace

TEST_CASE("shares cover the range once, begin at multiples of the grain and differ by at most one grain") {
    for (std::size_t count = 0; count <= 40; ++count) {
        for (std::size_t grain = 0; grain <= 9; ++grain) {
            const std::size_t step = std::max<std::size_t>(grain, 1);
            for (unsigned workers = 0; workers <= 9; ++workers) {
                CAPTURE(count);
                CAPTURE(grain);
                CAPTURE(workers);
                const unsigned shares = hlwq::share_count(count, grain, workers);
                REQUIRE(shares <= std::max(workers, 1u));
                REQUIRE((shares == 0) == (count == 0));
                std::size_t next = 0, least = count, most = 0;
                for (unsigned k = 0; k < shares; ++k) {
                    const auto [begin, end] = hlwq::share_of(count, grain, shares, k);
                    REQUIRE(begin == next);
                    REQUIRE(begin % step == 0);
                    REQUIRE(begin < end);
                    const std::size_t grains = (end - begin + step - 1) / step;
                    least = std::min(least, grains);
                    most = std::max(most, grains);
                    next = end;
                }
                REQUIRE(next == count);
                REQUIRE((shares == 0 || most - least <= 1));
            }
        }
    }
}

TEST_CASE("shares of counts near the limits of the integer type") {
    constexpr std::size_t huge = static_cast<std::size_t>(-1);
    CHECK(hlwq::share_count(huge, 1, 7) == 7);
    CHECK(hlwq::share_count(huge, huge, 7) == 1);
    CHECK(hlwq::share_of(huge, 1, 7, 0).begin == 0);
    CHECK(hlwq::share_of(huge, 1, 7, 6).end == huge);
    CHECK(hlwq::share_of(huge, 1, 7, 2).end == hlwq::share_of(huge, 1, 7, 3).begin);
}

TEST_CASE("every executor visits every index once") {
    for (const std::size_t count : std::vector<std::size_t>{0, 1, 2, 7, 64, 1000}) {
        for (const std::size_t grain : std::vector<std::size_t>{0, 1, 3, 64, 5000}) {
            CAPTURE(count);
            CAPTURE(grain);
            const std::vector<int> once(count, 1);
            CHECK(visits(hlwq::serial_executor{}, count, grain) == once);
            CHECK(visits(backward_executor{5}, count, grain) == once);
            CHECK(visits(openmp_executor{}, count, grain) == once);
        }
    }
}

TEST_CASE("executor_ref runs what it refers to") {
    backward_executor backward{5};
    hlwq::executor_ref ref = backward;
    CHECK(ref.concurrency() == 5);
    std::vector<std::size_t> begins;
    std::vector<unsigned> workers;
    ref.parallel_for(10, 2, [&](std::size_t begin, std::size_t, unsigned worker) noexcept {
        begins.push_back(begin);
        workers.push_back(worker);
    });
    CHECK(begins == std::vector<std::size_t>{8, 6, 4, 2, 0});
    CHECK(workers == std::vector<unsigned>{4, 3, 2, 1, 0});

    backward.workers = 2;  // a reference, not a copy
    CHECK(ref.concurrency() == 2);

    const hlwq::serial_executor serial;
    const hlwq::executor_ref constant = serial;
    CHECK(visits(constant, 17, 4) == std::vector<int>(17, 1));
    const auto through_ref = visits(hlwq::executor_ref(backward), 17, 4);
    CHECK(through_ref == std::vector<int>(17, 1));
}

TEST_CASE("the serial executor passes one range, and none for an empty one") {
    std::vector<std::size_t> calls;
    const auto body = [&](std::size_t begin, std::size_t end, unsigned worker) noexcept {
        calls.insert(calls.end(), {begin, end, worker});
    };
    hlwq::serial_executor{}.parallel_for(0, 1, body);
    CHECK(calls.empty());
    hlwq::serial_executor{}.parallel_for(12, 5, body);
    CHECK(calls == std::vector<std::size_t>{0, 12, 0});
}
