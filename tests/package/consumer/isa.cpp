// Compiled once for each instruction set.
#include <hlwq/config.hpp>

const char* HLWQ_FOR_ISA(isa_of_)();
const char* HLWQ_FOR_ISA(isa_of_)() { return hlwq::isa_name(); }
