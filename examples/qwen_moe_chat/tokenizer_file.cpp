#include "qwen_moe_chat/tokenizer_file.hpp"

#include "hlwq/error.hpp"
#include "hlwq/io/json.hpp"

#include <array>
#include <utility>

namespace qwen {

namespace {

/// Reads the two large parts, model.vocab and model.merges, as they pass, and the rest as a document.
class file_handler : public nlohmann::json_sax<nlohmann::json> {
  public:
    tokenizer_file file;
    std::string problem;

    bool null() override { return add(nullptr); }
    bool boolean(bool value) override { return add(value); }
    bool number_integer(std::int64_t value) override { return add(value); }
    bool number_unsigned(std::uint64_t value) override {
        if (part_ != part::vocab) return add(value);
        if (value >= ~std::uint32_t{0}) return fail("vocab entry '" + key_ + "': expected an id of 32 bits");
        return file.vocab.insert(key_, static_cast<std::uint32_t>(value)) ||
               fail("vocab entry '" + key_ + "' is given twice");
    }
    bool number_float(double value, const std::string&) override { return add(value); }
    bool binary(nlohmann::json::binary_t&) override { return fail("binary data"); }
    bool string(std::string& value) override {
        if (part_ == part::merge_pair) {
            if (symbols_ < pair_.size()) pair_[symbols_].swap(value);
            ++symbols_;
            return true;
        }
        if (part_ != part::merges) return add(std::move(value));
        const std::size_t space = value.find(' ');
        if (space == std::string::npos || value.find(' ', space + 1) != std::string::npos) {
            return fail("merge " + std::to_string(file.merges.size()) + ": expected two symbols, found '" + value +
                        "'");
        }
        const std::string_view text = value;
        file.merges.push_back(text.substr(0, space), text.substr(space + 1));
        return true;
    }
    bool start_object(std::size_t) override {
        if (part_ != part::document) return fail("unexpected object in '" + last_key() + "'");
        if (is_model_member("vocab")) {
            part_ = part::vocab;
            return true;
        }
        return open(nlohmann::json::object());
    }
    bool key(std::string& name) override {
        if (part_ == part::vocab) {
            key_.swap(name);
        } else {
            keys_.back() = std::move(name);
        }
        return true;
    }
    bool end_object() override {
        if (part_ == part::vocab) {
            part_ = part::document;
            return true;
        }
        return close();
    }
    bool start_array(std::size_t) override {
        if (part_ == part::merges) {
            part_ = part::merge_pair;
            symbols_ = 0;
            return true;
        }
        if (part_ != part::document) return fail("unexpected list in '" + last_key() + "'");
        if (is_model_member("merges")) {
            part_ = part::merges;
            return true;
        }
        return open(nlohmann::json::array());
    }
    bool end_array() override {
        if (part_ == part::merge_pair) {
            if (symbols_ != pair_.size()) {
                return fail("merge " + std::to_string(file.merges.size()) + ": expected two symbols, found " +
                            std::to_string(symbols_));
            }
            file.merges.push_back(pair_[0], pair_[1]);
            part_ = part::merges;
            return true;
        }
        if (part_ == part::merges) {
            part_ = part::document;
            return true;
        }
        return close();
    }
    bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) override {
        return fail("expected JSON, found a syntax error at byte " + std::to_string(position));
    }

  private:
    enum class part : std::uint8_t { document, vocab, merges, merge_pair };
    static constexpr std::size_t deepest = 64;

    bool fail(std::string text) {
        if (problem.empty()) problem = std::move(text);
        return false;
    }
    std::string last_key() const { return keys_.empty() ? std::string("the file") : keys_.back(); }
    bool is_model_member(std::string_view name) const {
        return keys_.size() == 2 && keys_[0] == "model" && keys_[1] == name;
    }
    template <class T>
    bool add(T&& value) {
        if (part_ != part::document) return fail("unexpected value in model." + last_key());
        place(nlohmann::json(std::forward<T>(value)));
        return true;
    }
    nlohmann::json* place(nlohmann::json value) {
        if (open_.empty()) {
            file.rest = std::move(value);
            return &file.rest;
        }
        nlohmann::json& parent = *open_.back();
        if (parent.is_array()) {
            parent.push_back(std::move(value));
            return &parent.back();
        }
        return &(parent[keys_.back()] = std::move(value));
    }
    bool open(nlohmann::json value) {
        if (open_.size() >= deepest) return fail("nesting deeper than 64");
        open_.push_back(place(std::move(value)));
        keys_.emplace_back();
        return true;
    }
    bool close() {
        open_.pop_back();
        keys_.pop_back();
        return true;
    }

    part part_ = part::document;
    std::vector<nlohmann::json*> open_;
    std::vector<std::string> keys_;
    std::string key_;
    std::array<std::string, 2> pair_;
    std::size_t symbols_ = 0;  // of the pair so far
};

}  // namespace

tokenizer_file parse_tokenizer_file(std::string_view json, std::string_view source) {
    file_handler handler;
    if (const auto at = hlwq::io::find_zero_byte(json); at != json.npos) {
        handler.problem = "expected JSON, found a zero byte at byte " + std::to_string(at);
    }
    const bool parsed = handler.problem.empty() && nlohmann::json::sax_parse(json.begin(), json.end(), &handler);
    if (!parsed || !handler.file.rest.is_object()) {
        hlwq::throw_error<hlwq::format_error>("tokenizer " + std::string(source) + ": " +
                                              (!handler.problem.empty() ? handler.problem
                                               : parsed                 ? "expected an object"
                                                                        : "expected JSON"));
    }
    return std::move(handler.file);
}

}  // namespace qwen
