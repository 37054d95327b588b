#include "console/process.hpp"

#include <sys/resource.h>

#include <cstdio>

namespace console {

std::uint64_t peak_resident_set() {
    // getrusage keeps the peak of the program that started this one; the high-water mark is this one's own.
    if (std::FILE* status = std::fopen("/proc/self/status", "r"); status != nullptr) {
        char line[256];
        unsigned long long kibibytes = 0;
        while (std::fgets(line, sizeof line, status) != nullptr) {
            if (std::sscanf(line, "VmHWM: %llu", &kibibytes) == 1) break;
        }
        std::fclose(status);
        if (kibibytes != 0) return kibibytes * 1024;
    }
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

}  // namespace console
