// hlwq/executor.hpp — who runs the loops: a concept, the calling thread, and a type-erased reference
//
// Headers start no thread; the caller passes an executor, and the default is the calling thread. A parallel loop calls
// its body with half-open ranges that cover [0, count) exactly once and returns when all are done.
//
//   parallel_for(count, grain, body)   body(begin, end, worker) noexcept
//     grain     every begin is a multiple of it
//     worker    < concurrency(): an index for scratch memory; never two bodies at once with the same worker
//
// The library divides by rows only and never splits a sum, so its results do not depend on the number of workers.
//
// Adapters for other pools (tests/executors runs them). OpenMP:
//   struct openmp_executor {
//       unsigned concurrency() const { return static_cast<unsigned>(omp_get_max_threads()); }
//       template <class F> void parallel_for(std::size_t count, std::size_t grain, F&& body) const {
//           const auto shares = hlwq::share_count(count, grain, concurrency());
//           #pragma omp parallel for schedule(static, 1)
//           for (unsigned k = 0; k < shares; ++k) {
//               const auto [begin, end] = hlwq::share_of(count, grain, shares, k);
//               body(begin, end, k);
//           }
//       }
//   };
// oneTBB, where the arena of the caller says how many workers there are:
//   struct tbb_executor {
//       unsigned concurrency() const { return static_cast<unsigned>(tbb::this_task_arena::max_concurrency()); }
//       template <class F> void parallel_for(std::size_t count, std::size_t grain, F&& body) const {
//           const auto shares = hlwq::share_count(count, grain, concurrency());
//           const auto share = [&](unsigned k) {
//               const auto [begin, end] = hlwq::share_of(count, grain, shares, k);
//               body(begin, end, k);
//           };
//           tbb::parallel_for(0u, shares, share, tbb::static_partitioner());
//       }
//   };
#pragma once

#include "hlwq/config.hpp"

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>

namespace hlwq {

namespace detail {
struct executor_probe {
    void operator()(std::size_t, std::size_t, unsigned) const noexcept {}
};
}  // namespace detail

/// Anything that can run `body(begin, end, worker)` over [0, count).
template <class E>
concept executor = requires(E& e, std::size_t n, detail::executor_probe body) {
    { e.concurrency() } -> std::convertible_to<unsigned>;
    e.parallel_for(n, n, body);
};

/// Begin and end of a share of an index range.
struct index_range {
    std::size_t begin;
    std::size_t end;
};

/// Number of non-empty shares when [0, count) is divided among at most `workers` in multiples of `grain`.
constexpr unsigned share_count(std::size_t count, std::size_t grain, unsigned workers) noexcept {
    const std::size_t step = grain == 0 ? 1 : grain;
    const std::size_t grains = count / step + (count % step != 0 ? 1 : 0);
    return static_cast<unsigned>(std::min<std::size_t>(grains, workers == 0 ? 1 : workers));
}

/// The k-th of `shares` contiguous shares of [0, count); each begins at a multiple of `grain`.
constexpr index_range share_of(std::size_t count, std::size_t grain, unsigned shares, unsigned k) noexcept {
    const std::size_t step = grain == 0 ? 1 : grain;
    const std::size_t grains = count / step + (count % step != 0 ? 1 : 0);
    const auto edge = [&](std::size_t index) {
        const std::size_t whole = grains / shares, extra = grains % shares;
        return std::min(count, (whole * index + std::min(index, extra)) * step);
    };
    return {edge(k), edge(static_cast<std::size_t>(k) + 1)};
}

/// The calling thread.
struct serial_executor {
    constexpr unsigned concurrency() const noexcept { return 1; }
    template <class F>
    void parallel_for(std::size_t count, std::size_t /*grain*/, F&& body) const {
        if (count != 0) body(std::size_t{0}, count, 0u);
    }
};

/// A reference to any executor, of one type: for interfaces that cannot be templates. Two pointers and a function
/// table entry; the executor must outlive it.
class executor_ref {
  public:
    template <class E>
    requires(!std::same_as<std::remove_cvref_t<E>, executor_ref> && executor<E>) executor_ref(E& target)
    noexcept
        : target_(const_cast<void*>(static_cast<const void*>(std::addressof(target)))),
          concurrency_([](void* t) { return static_cast<unsigned>(static_cast<E*>(t)->concurrency()); }),
          run_([](void* t, std::size_t count, std::size_t grain, void* body, body_function call) {
              static_cast<E*>(t)->parallel_for(count, grain,
                                               [=](std::size_t begin, std::size_t end, unsigned worker) noexcept {
                                                   call(body, begin, end, worker);
                                               });
          }) {}

    unsigned concurrency() const { return concurrency_(target_); }
    template <class F>
    void parallel_for(std::size_t count, std::size_t grain, F&& body) const {
        using body_type = std::remove_reference_t<F>;
        run_(target_, count, grain, const_cast<void*>(static_cast<const void*>(std::addressof(body))),
             [](void* f, std::size_t begin, std::size_t end, unsigned worker) noexcept {
                 (*static_cast<body_type*>(f))(begin, end, worker);
             });
    }

  private:
    using body_function = void (*)(void*, std::size_t, std::size_t, unsigned) noexcept;
    void* target_;
    unsigned (*concurrency_)(void*);
    void (*run_)(void*, std::size_t, std::size_t, void*, body_function);
};

static_assert(executor<serial_executor> && executor<executor_ref>);

}  // namespace hlwq
