// One of two units that include everything; b.cpp is the other. Together they must link.
#include "everything.hpp"

const char* backend_of_b();

int main() {
    std::printf("%s %s\n", hlwq::backend_name(), backend_of_b());
    return std::string_view(hlwq::backend_name()) == backend_of_b() ? 0 : 1;
}
