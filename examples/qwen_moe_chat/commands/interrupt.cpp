#include "qwen_moe_chat/commands/interrupt.hpp"

#include <unistd.h>

namespace qwen {

namespace {

// A signal handler reaches nothing but what is static.
std::atomic<bool> interrupted = false;
std::atomic<bool> end_at_second = false;
static_assert(std::atomic<bool>::is_always_lock_free);

extern "C" void on_interrupt(int) {
    if (interrupted.exchange(true) && end_at_second) ::_exit(130);
}

}  // namespace

interrupt_flag::interrupt_flag(bool second_ends) {
    interrupted = false;
    end_at_second = second_ends;
    struct sigaction action {};
    action.sa_handler = on_interrupt;
    sigemptyset(&action.sa_mask);
    action.sa_flags = 0;  // no SA_RESTART: waiting for input ends
    ::sigaction(SIGINT, &action, &before_);
}

interrupt_flag::~interrupt_flag() { ::sigaction(SIGINT, &before_, nullptr); }

const std::atomic<bool>& interrupt_flag::flag() const noexcept { return interrupted; }

void interrupt_flag::set(bool value) noexcept { interrupted = value; }

}  // namespace qwen
