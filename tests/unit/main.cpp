// The unit tests of one instruction set; `--source-file=*gemv.cpp` runs those of one header.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "hlwq/config.hpp"

int main(int argc, char** argv) {
    std::printf("hlwq %s, %s\n", hlwq::version, hlwq::isa_name());
    std::fflush(stdout);
    return doctest::Context(argc, argv).run();
}
