// Keys, bases and slices in every spelling.
#include "hlwq/io/tensor_names.hpp"

#include <doctest/doctest.h>

#include <string>

namespace {

using hlwq::checkpoint::expert_slice;
using hlwq::checkpoint::has_segment;
using hlwq::checkpoint::is_vision;
using hlwq::checkpoint::key_family;
using hlwq::checkpoint::last_segment;
using hlwq::checkpoint::parse_index;
using hlwq::checkpoint::parse_part;
using hlwq::checkpoint::parse_source;
using hlwq::checkpoint::part;
using hlwq::checkpoint::slice_name;
using hlwq::checkpoint::source_name;
using hlwq::checkpoint::unmangle;

source_name dunder(const char* base) { return parse_source(base, key_family::dunder); }

}  // namespace

TEST_CASE("suffixes tell parts apart, plain names have none") {
    const auto check = [](const char* key, const char* base, part kind, key_family family) {
        CAPTURE(key);
        const auto found = parse_part(key);
        REQUIRE(found.has_value());
        CHECK(found->base == base);
        CHECK(found->kind == kind);
        CHECK(found->family == family);
    };
    check("a.q.codes", "a.q", part::codes, key_family::dotted);
    check("a.q.codes_packed", "a.q", part::nibbles, key_family::dotted);
    check("a.q.norms", "a.q", part::norms, key_family::dotted);
    check("a.q.ct", "a.q", part::table, key_family::dotted);
    check("a.q.ct_scaled", "a.q", part::scaled_table, key_family::dotted);
    check("a__q__codes", "a__q", part::codes, key_family::dunder);
    check("a.q.weight__packed", "a.q.weight", part::packed, key_family::dunder);
    check("a.q.weight__norms", "a.q.weight", part::norms, key_family::dunder);
    check("a.q.weight__meta", "a.q.weight", part::meta, key_family::dunder);
    for (const char* name : {"a.q.weight", "codes", ".codes", "__packed", "a.codes.weight", "a.qcodes", "", "a.norm"}) {
        CAPTURE(name);
        CHECK(!parse_part(name).has_value());
    }
}

TEST_CASE("mangled names are restored, dotted ones left alone") {
    CHECK(dunder("model__layers__0__q_proj__weight").name == "model.layers.0.q_proj.weight");
    CHECK(dunder("model__layers__0__q_proj").name == "model.layers.0.q_proj");
    CHECK(dunder("model.layers.0.q__proj.weight").name == "model.layers.0.q__proj.weight");
    CHECK(dunder("lm_head.weight").name == "lm_head.weight");
    CHECK(dunder("lm_head__weight").name == "lm_head.weight");
    CHECK(parse_source("model.layers.0.q_proj", key_family::dotted).name == "model.layers.0.q_proj.weight");
    CHECK(unmangle("a___b") == "a._b");
    CHECK(unmangle("a____b") == "a..b");
}

TEST_CASE("what looks like a slice and is none") {
    for (const char* base : {"model.visual.merger.mlp.0.weight", "model.layers.3.weight", "model.experts.3.weight",
                             "model.experts.3.gate_proj.weight", "foo_e3.weight", "model.foo_e3.weight",
                             "model.experts.gate_up_proj_e.weight", "model.experts.gate_up_proj_e03.weight",
                             "model.experts.gate_up_proj_e9999999999.weight", "_e3", "3", "experts.3"}) {
        CAPTURE(base);
        const source_name found = dunder(base);
        CHECK(!found.slice.has_value());
        CHECK(found.name == base);
    }
    const source_name down = dunder("model.experts.3.down_proj.weight");
    CHECK(down.needs_gate_up);
    CHECK(down.name == "model.experts.3.down_proj.weight");
    CHECK(down.slice == expert_slice{"model.experts.down_proj", 3});
}

TEST_CASE("slices have one name") {
    CHECK(slice_name("a.experts.down_proj", 3) == "a.experts.3.down_proj.weight");
    CHECK(slice_name("experts.down_proj", 3) == "experts.3.down_proj.weight");
    CHECK(slice_name("a.stack.weight", 3) == "a.stack.3.weight");
    CHECK(dunder("a__b_proj_e12").slice == expert_slice{"a.b_proj", 12});
    CHECK(dunder("a__b_proj_e12").name == "a.b_proj.12.weight");
}

TEST_CASE("segments, indices, vision") {
    CHECK(has_segment("a.experts.b", "experts"));
    CHECK(!has_segment("a.experts2.b", "experts"));
    CHECK(last_segment("a.b") == "b");
    CHECK(last_segment("b") == "b");
    CHECK(parse_index("0") == 0u);
    CHECK(parse_index("999999999") == 999999999u);
    for (const char* text : {"", "00", "01", "-1", "1.", "1000000000", "x"}) CHECK(!parse_index(text).has_value());
    CHECK(is_vision("model.visual.blocks.0.w"));
    CHECK(!is_vision("model.visualize.w"));
}
