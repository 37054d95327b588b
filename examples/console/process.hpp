// console/process.hpp — what the system says about this process
#pragma once

#include <cstdint>

namespace console {

/// Peak resident set of this process, in bytes; pages of mapped files count.
std::uint64_t peak_resident_set();

}  // namespace console
