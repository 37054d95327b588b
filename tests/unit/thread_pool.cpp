#include "hlwq/thread_pool.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <ctime>
#include <cstddef>
#include <thread>
#include <vector>

namespace {

/// What the bodies of one region saw.
struct record {
    std::vector<int> visits;
    std::vector<std::size_t> begins;  // by worker; count where there was no body

    template <class E>
    record(E& ex, std::size_t count, std::size_t grain) : visits(count, 0), begins(ex.concurrency(), count) {
        ex.parallel_for(count, grain, [&](std::size_t begin, std::size_t end, unsigned worker) noexcept {
            begins[worker] = begin;
            for (std::size_t i = begin; i < end; ++i) ++visits[i];
        });
    }
};

}  // namespace

TEST_CASE("a pool covers every range once, worker k with the k-th share") {
    for (const unsigned workers : {1u, 2u, 3u, 5u, 7u}) {
        hlwq::thread_pool pool(workers);
        REQUIRE(pool.concurrency() == workers);
        for (const std::size_t count : std::vector<std::size_t>{0, 1, 2, 3, 6, 7, 8, 29, 1000}) {
            for (const std::size_t grain : std::vector<std::size_t>{0, 1, 2, 3, 7, 64, 2000}) {
                CAPTURE(workers);
                CAPTURE(count);
                CAPTURE(grain);
                const record seen(pool, count, grain);
                REQUIRE(seen.visits == std::vector<int>(count, 1));
                const unsigned shares = hlwq::share_count(count, grain, workers);
                for (unsigned k = 0; k < workers; ++k) {
                    REQUIRE(seen.begins[k] == (k < shares ? hlwq::share_of(count, grain, shares, k).begin : count));
                }
            }
        }
    }
}

TEST_CASE("no number means one worker a processor") {
    hlwq::thread_pool pool;
    CHECK(pool.concurrency() == std::max(1u, std::thread::hardware_concurrency()));
}

TEST_CASE("each worker is one thread, the caller the first") {
    hlwq::thread_pool pool(4);
    std::vector<std::thread::id> first(4), second(4);
    const auto note = [&](std::vector<std::thread::id>& ids) {
        pool.parallel_for(4, 1, [&](std::size_t, std::size_t, unsigned worker) noexcept {
            ids[worker] = std::this_thread::get_id();
        });
    };
    note(first);
    note(second);
    CHECK(first == second);
    CHECK(first[0] == std::this_thread::get_id());
    for (std::size_t i = 0; i < 4; ++i) {
        for (std::size_t j = 0; j < i; ++j) CHECK(first[i] != first[j]);
    }
}

TEST_CASE("thousands of regions, spinning and asleep") {
    for (const unsigned workers : {2u, 5u}) {  // with and without spinning on two processors
        hlwq::thread_pool pool(workers);
        std::vector<std::size_t> sums(workers * 16, 0);  // a cache line each
        constexpr std::size_t rounds = 3000;
        for (std::size_t round = 0; round < rounds; ++round) {
            // Long enough for every worker to fall asleep, now and then.
            if (round % 500 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
            pool.parallel_for(workers * 3 - round % 2, 1,
                              [&](std::size_t begin, std::size_t end, unsigned worker) noexcept {
                                  for (std::size_t i = begin; i < end; ++i) sums[worker * 16] += i + 1;
                              });
        }
        std::size_t total = 0;
        for (const std::size_t sum : sums) total += sum;
        const std::size_t all = workers * 3;
        CHECK(total == rounds / 2 * (all * (all + 1) / 2) + rounds / 2 * ((all - 1) * all / 2));
    }
}

TEST_CASE("a region inside a body runs on the worker that asks, under its index") {
    hlwq::thread_pool pool(3);
    std::vector<int> inner(3 * 10, 0);
    std::vector<int> foreign(3, 0);
    pool.parallel_for(3, 1, [&](std::size_t begin, std::size_t end, unsigned worker) noexcept {
        for (std::size_t i = begin; i < end; ++i) {
            const auto thread = std::this_thread::get_id();
            pool.parallel_for(10, 1, [&, i](std::size_t b, std::size_t e, unsigned nested) noexcept {
                if (nested != worker || std::this_thread::get_id() != thread) ++foreign[worker];
                for (std::size_t j = b; j < e; ++j) ++inner[i * 10 + j];
            });
        }
    });
    CHECK(inner == std::vector<int>(30, 1));
    CHECK(foreign == std::vector<int>(3, 0));
    CHECK(record(pool, 9, 1).visits == std::vector<int>(9, 1));  // and the pool is whole again
}

TEST_CASE("pools inside pools, and back again, end") {
    hlwq::thread_pool outer(2), other(2);
    std::atomic<int> count{0};
    outer.parallel_for(2, 1, [&](std::size_t, std::size_t, unsigned) noexcept {
        other.parallel_for(2, 1, [&](std::size_t b, std::size_t e, unsigned) noexcept {
            for (std::size_t i = b; i < e; ++i) {
                outer.parallel_for(5, 1, [&](std::size_t from, std::size_t to, unsigned) noexcept {
                    count += static_cast<int>(to - from);
                });
            }
        });
    });
    CHECK(count == 2 * 2 * 5);
}

TEST_CASE("two threads may use one pool") {
    hlwq::thread_pool pool(2);
    std::atomic<bool> wrong{false};
    const auto use = [&] {
        for (int round = 0; round < 300; ++round) {
            std::vector<std::atomic<int>> seen(23);
            pool.parallel_for(seen.size(), 2, [&](std::size_t begin, std::size_t end, unsigned) noexcept {
                for (std::size_t i = begin; i < end; ++i) ++seen[i];
            });
            for (const auto& n : seen) {
                if (n != 1) wrong = true;
            }
        }
    };
    std::thread other(use);
    use();
    other.join();
    CHECK(!wrong);
}

TEST_CASE("executor_ref carries a pool") {
    hlwq::thread_pool pool(3);
    hlwq::executor_ref ref = pool;
    CHECK(ref.concurrency() == 3);
    CHECK(record(ref, 31, 2).visits == std::vector<int>(31, 1));
}

TEST_CASE("an idle pool takes no processor time") {
    hlwq::thread_pool pool(2);
    CHECK(record(pool, 8, 1).visits == std::vector<int>(8, 1));
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // the time to fall asleep
    const std::clock_t before = std::clock();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    const double busy = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
    CHECK(busy < 0.05);  // a spinning worker would have taken 0.1 s
}

TEST_CASE("pools that are never used end") {
    for (int i = 0; i < 50; ++i) hlwq::thread_pool pool(3);
    CHECK(hlwq::thread_pool(1).concurrency() == 1);
}
