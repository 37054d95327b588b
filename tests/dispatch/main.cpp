// Run once for each instruction set, which HLWQ_ISA names. Where this processor does not run it, or nobody knows it,
// the only test is that the library says so.
#define DOCTEST_CONFIG_IMPLEMENT
#include "hlwq/dispatch/dispatch.hpp"
#include "hlwq/error.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>

int main(int argc, char** argv) {
    const char* const wanted = std::getenv("HLWQ_ISA");
    const auto runnable = hlwq::dispatch::runnable();
    if (wanted == nullptr || std::find(runnable.begin(), runnable.end(), std::string_view(wanted)) != runnable.end()) {
        return doctest::Context(argc, argv).run();
    }
    for (int times = 0; times < 2; ++times) {  // the second call must not find a choice that the first one left
        try {
            std::printf("%s was accepted\n", hlwq::dispatch::isa().data());
            return 1;
        } catch (const hlwq::unsupported_error& refusal) {
            std::printf("refused: %s\n", refusal.what());
        }
    }
    return 0;
}
