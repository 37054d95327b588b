#include "everything.hpp"

const char* backend_of_b();
const char* backend_of_b() { return hlwq::backend_name(); }
