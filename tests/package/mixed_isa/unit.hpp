#pragma once

struct unit_result {
    const char* isa;
    unsigned code_sum;
    double error;    // squared, of all weights
    double product;  // of the row with itself
};

void unit_v2(unit_result& result);
void unit_v3(unit_result& result);
void unit_native(unit_result& result);
