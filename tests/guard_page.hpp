// tests/guard_page.hpp — memory that ends where reading on is a fault
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <sys/mman.h>
#include <unistd.h>

/// At least `size` readable and writable bytes, right before a page that can be neither read nor written.
class guard_page {
  public:
    explicit guard_page(std::size_t size = 1) {
        const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
        usable_ = (size + page - 1) / page * page;
        total_ = usable_ + page;
        void* p = mmap(nullptr, total_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) std::abort();
        begin_ = static_cast<std::uint8_t*>(p);
        if (mprotect(begin_ + usable_, page, PROT_NONE) != 0) std::abort();
    }
    guard_page(const guard_page&) = delete;
    guard_page& operator=(const guard_page&) = delete;
    ~guard_page() { munmap(begin_, total_); }

    /// The first byte that must not be touched.
    std::uint8_t* end() const noexcept { return begin_ + usable_; }

  private:
    std::uint8_t* begin_;
    std::size_t usable_ = 0;
    std::size_t total_ = 0;
};
