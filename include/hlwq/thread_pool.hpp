// hlwq/thread_pool.hpp — persistent worker threads: an executor for programs that bring none of their own
//
//   thread_pool pool;        one worker a processor; thread_pool pool(4) for four
//   gemv(w, x, y, pool);
//
// The calling thread is worker 0; the others wait for it, at first spinning, for 250 us, then asleep in the system. The
// index range is divided once, in contiguous shares, worker k taking the k-th: the same worker touches the same memory
// in every region of the same shape. Only as many workers are woken as there are shares.
//
//   cost     below 1 us for a region of two workers that still spin; a wake-up by the system, 20 to 80 us, when they
//            sleep; none for a single share (bench/thread_pool.cpp)
//   nesting  a region asked for while another one runs, from a body or from another thread, runs entirely on the thread
//            that asks, with the worker index of the body that asked, or 0: never a deadlock, and the same results
//   throws   std::system_error when the system refuses a thread; threads already started are ended before
//
// Bodies are noexcept: an exception that leaves one ends the program.
#pragma once

#include "hlwq/config.hpp"
#include "hlwq/executor.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

namespace hlwq::inline HLWQ_CODE_NAMESPACE {

class thread_pool {
  public:
    /// A pool of that many workers, the calling thread among them; 0 means one a processor.
    explicit thread_pool(unsigned workers = 0) : crew_(workers == 0 ? processors() : workers) { crew_.start(); }

    thread_pool(const thread_pool&) = delete;
    thread_pool& operator=(const thread_pool&) = delete;
    /// Ends the threads. No region may be running.
    ~thread_pool() = default;

    unsigned concurrency() const noexcept { return crew_.workers; }

    /// Calls body(begin, end, worker) for contiguous shares of [0, count) that begin at multiples of `grain`, and
    /// returns when all are done.
    template <class F>
    void parallel_for(std::size_t count, std::size_t grain, F&& body) {
        using body_type = std::remove_reference_t<F>;
        const unsigned shares = share_count(count, grain, crew_.workers);
        if (shares == 0) return;
        membership& self = current();
        const bool inside = self.pool == &crew_;
        if (shares == 1 || inside || crew_.busy.exchange(true, std::memory_order_acquire)) {
            body(std::size_t{0}, count, inside ? self.worker : 0u);
            return;
        }
        crew_.job = {const_cast<void*>(static_cast<const void*>(std::addressof(body))),
                     [](void* f, std::size_t begin, std::size_t end, unsigned worker) noexcept {
                         (*static_cast<body_type*>(f))(begin, end, worker);
                     },
                     count,
                     grain,
                     shares,
                     processor_here()};
        crew_.run(self);
        crew_.busy.store(false, std::memory_order_release);
    }

  private:
    struct region {
        void* body;
        void (*call)(void*, std::size_t, std::size_t, unsigned) noexcept;
        std::size_t count;
        std::size_t grain;
        unsigned shares;
        int home;  // processor of the calling thread
    };
    struct crew;
    /// Which body of which pool the calling thread is in.
    struct membership {
        const crew* pool = nullptr;
        unsigned worker = 0;
    };
    static membership& current() noexcept {
        static thread_local membership here;
        return here;
    }
    static unsigned processors() noexcept { return std::max(1u, std::thread::hardware_concurrency()); }

    static void relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        asm volatile("yield");
#endif
    }

    static int processor_here() noexcept {
#if defined(__linux__)
        return sched_getcpu();
#else
        return -1;
#endif
    }
    // Where the system does not balance its load (some containers and virtual machines), a thread stays on the
    // processor of the thread that created or woke it, and a region takes longer than it would on one thread. So
    // workers leave the processor of the caller when they find themselves there, and the caller returns to its own.
    // Nothing is pinned: a system that knows better may move them on.
    static void move_to([[maybe_unused]] int processor) noexcept {
#if defined(__linux__)
        cpu_set_t allowed, one;
        if (processor < 0 || sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
        CPU_ZERO(&one);
        CPU_SET(static_cast<std::size_t>(processor), &one);
        if (sched_setaffinity(0, sizeof(one), &one) == 0) sched_setaffinity(0, sizeof(allowed), &allowed);
#endif
    }
    /// The k-th processor behind `home` among those that the calling thread may use, or -1.
    static int processor_behind([[maybe_unused]] int home, [[maybe_unused]] unsigned k) noexcept {
#if defined(__linux__)
        cpu_set_t allowed;
        if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0 || CPU_COUNT(&allowed) < 2) return -1;
        auto at = static_cast<std::size_t>(home);
        for (unsigned left = k; left != 0;) {
            at = (at + 1) % CPU_SETSIZE;
            if (CPU_ISSET(at, &allowed)) --left;
        }
        return static_cast<int>(at);
#else
        return -1;
#endif
    }

    /// How long a thread spins before it sleeps: longer than what a program does on one thread between the regions of
    /// one piece of work (10 to 100 us between the products of a model's layer), so that only a pause puts it to sleep.
    static constexpr std::chrono::microseconds spin_time{250};

    /// The value of `word` once it differs from `old`.
    static std::uint32_t wait_for_change(const std::atomic<std::uint32_t>& word, std::uint32_t old,
                                         bool spin) noexcept {
        std::uint32_t now = word.load(std::memory_order_acquire);
        if (spin && now == old) {
            const auto end = std::chrono::steady_clock::now() + spin_time;
            do {
                for (int i = 0; i < 16 && now == old; ++i) {
                    relax();
                    now = word.load(std::memory_order_acquire);
                }
            } while (now == old && std::chrono::steady_clock::now() < end);
        }
        while (now == old) {
            word.wait(old, std::memory_order_acquire);
            now = word.load(std::memory_order_acquire);
        }
        return now;
    }

    // A line of its own for each word that one thread writes and another polls.
    struct alignas(128) mailbox {
        std::atomic<std::uint32_t> calls{0};
    };

    struct crew {
        explicit crew(unsigned count) : workers(count), spin(count <= processors()), mailboxes(new mailbox[count]) {}
        crew(const crew&) = delete;
        crew& operator=(const crew&) = delete;
        ~crew() {
            job = {};
            for (unsigned k = 1; k <= threads.size(); ++k) call(k);
            for (std::thread& thread : threads) thread.join();
        }

        void start() {
            threads.reserve(workers - 1);
            for (unsigned k = 1; k < workers; ++k) threads.emplace_back([this, k] { serve(k); });
        }
        void call(unsigned k) noexcept {
            mailboxes[k].calls.fetch_add(1, std::memory_order_release);
            mailboxes[k].calls.notify_one();
        }
        void work(membership& self, unsigned k) noexcept {
            const membership before = self;
            self = {this, k};
            const auto [begin, end] = share_of(job.count, job.grain, job.shares, k);
            job.call(job.body, begin, end, k);
            self = before;
        }
        void serve(unsigned k) noexcept {
            membership& self = current();
            for (std::uint32_t seen = 0;;) {
                seen = wait_for_change(mailboxes[k].calls, seen, spin);
                if (job.call == nullptr) return;
                if (spin && job.home >= 0 && job.home == processor_here()) move_to(processor_behind(job.home, k));
                work(self, k);
                if (pending.fetch_sub(1, std::memory_order_acq_rel) == 1) pending.notify_one();
            }
        }
        void run(membership& self) noexcept {
            pending.store(job.shares - 1, std::memory_order_relaxed);
            for (unsigned k = 1; k < job.shares; ++k) call(k);
            work(self, 0);
            for (std::uint32_t left = pending.load(std::memory_order_acquire); left != 0;) {
                left = wait_for_change(pending, left, spin);
            }
            if (spin && job.home != processor_here()) move_to(job.home);
        }

        const unsigned workers;
        const bool spin;  // with more workers than processors, spinning keeps the others from running
        region job{};
        std::unique_ptr<mailbox[]> mailboxes;
        alignas(128) std::atomic<std::uint32_t> pending{0};
        alignas(128) std::atomic<bool> busy{false};
        std::vector<std::thread> threads;
    };

    crew crew_;
};

static_assert(executor<thread_pool>);

}  // namespace hlwq::inline HLWQ_CODE_NAMESPACE
