// qwen_moe_chat/commands/interrupt.hpp — Ctrl-C as a flag
#pragma once

#include <atomic>

#include <signal.h>

namespace qwen {

/// While it lives, SIGINT sets a flag instead of ending the program. One at a time.
class interrupt_flag {
  public:
    /// `second_ends`: another SIGINT that finds the flag still set ends the program after all, with exit code 130.
    explicit interrupt_flag(bool second_ends);
    ~interrupt_flag();
    interrupt_flag(const interrupt_flag&) = delete;
    interrupt_flag& operator=(const interrupt_flag&) = delete;

    const std::atomic<bool>& flag() const noexcept;
    /// Sets the flag, or takes it back.
    void set(bool value) noexcept;

  private:
    struct sigaction before_ {};
};

}  // namespace qwen
