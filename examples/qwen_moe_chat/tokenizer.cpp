#include "qwen_moe_chat/tokenizer.hpp"

#include "qwen_moe_chat/byte_pair.hpp"
#include "qwen_moe_chat/pre_tokenizer.hpp"
#include "qwen_moe_chat/tokenizer_file.hpp"
#include "qwen_moe_chat/utf8.hpp"
#include "qwen_moe_chat/vocabulary.hpp"

#include "hlwq/error.hpp"
#include "hlwq/io/file.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <utility>

namespace qwen {

namespace {

constexpr token_id no_token = ~token_id{0};

// ---- the byte alphabet of GPT-2: every byte is a printable character

constexpr std::array<char32_t, 256> byte_characters = [] {
    std::array<char32_t, 256> table{};
    char32_t next = 256;
    for (char32_t b = 0; b < 256; ++b) {
        const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        table[b] = printable ? b : next++;
    }
    return table;
}();

constexpr std::array<std::int16_t, 324> character_bytes = [] {
    std::array<std::int16_t, 324> table{};
    for (auto& entry : table) entry = -1;
    for (std::size_t b = 0; b < 256; ++b) table[byte_characters[b]] = static_cast<std::int16_t>(b);
    return table;
}();

/// The bytes that a vocabulary entry stands for; false, and the entry itself, if it is not in the byte alphabet.
bool bytes_of_entry(std::string_view entry, std::string& bytes) {
    bytes.clear();
    for (std::size_t i = 0; i < entry.size();) {
        const int length = character_length(entry.substr(i));
        const char32_t c = length < 0 ? 0 : code_point(entry.substr(i, static_cast<std::size_t>(length)));
        if (c >= character_bytes.size() || character_bytes[c] < 0) {
            bytes = entry;
            return false;
        }
        bytes += static_cast<char>(character_bytes[c]);
        i += static_cast<std::size_t>(length);
    }
    return true;
}

/// Remembers the ids of short splits within one call: text repeats its words.
class split_cache {
  public:
    static constexpr std::size_t longest = 32, most_ids = 12;
    struct entry {
        std::uint8_t length = 0, count = 0;
        char text[longest] = {};
        token_id ids[most_ids] = {};
    };
    explicit split_cache(std::size_t text_size) : entries_(text_size < 2048 ? 0 : 4096) {}
    entry* slot(std::string_view split, std::uint64_t hash) noexcept {
        return entries_.empty() || split.size() > longest ? nullptr : &entries_[(hash >> 20) % entries_.size()];
    }

  private:
    std::vector<entry> entries_;
};

}  // namespace

struct tokenizer::tables {
    /// An added token.
    struct added_token {
        std::string text;
        token_id id = no_token;
    };
    /// Added tokens in the order of their texts, to be found by the first bytes of a text.
    struct added_list {
        std::vector<added_token> tokens;
        std::array<bool, 256> starts{};
        void insert(added_token token);
        void sort();
        const added_token* longest(std::string_view text) const noexcept;
    };
    enum class token_kind : std::uint8_t { none, vocabulary, added, special };

    std::string source;
    vocabulary ids;  // by raw spelling
    std::string bytes;
    struct entry {
        std::uint32_t begin = 0, length = 0;  // in `bytes`
        token_kind kind = token_kind::none;
    };
    std::vector<entry> entries;  // by id
    byte_pair_merges merges;
    std::array<token_id, 256> byte_ids{};
    vocabulary whole;  // vocabulary entries by their bytes
    std::size_t longest_whole = 0;
    /// By id, whether the bytes of an entry encode to this entry alone: 0 if not known yet, 1 no, 2 yes. Found when it
    /// is asked for; every thread finds the same.
    std::unique_ptr<std::atomic<std::uint8_t>[]> stands_alone;
    bool ignore_merges = false;
    bool nfc = false;
    splitter pattern;
    added_list added, added_normal;  // cut out before and behind the normaliser

    [[noreturn]] void fail(const std::string& problem) const {
        hlwq::throw_error<hlwq::format_error>("tokenizer " + source + ": " + problem);
    }
    [[noreturn]] void refuse(const std::string& problem) const {
        hlwq::throw_error<hlwq::unsupported_error>("tokenizer " + source + ": " + problem);
    }

    void load(std::string_view json);
    void load_model(const nlohmann::json& model, const symbol_pairs& pairs);
    void load_normalizer(const nlohmann::json& file);
    void load_pre_tokenizer(const nlohmann::json& file);
    void load_added(const nlohmann::json& file);
    void place(token_id id, std::string_view text, token_kind kind);
    std::string_view bytes_of(token_id id) const noexcept {
        return id < entries.size() ? std::string_view(bytes).substr(entries[id].begin, entries[id].length)
                                   : std::string_view();
    }

    template <class F>
    void cut_out(const added_list& list, std::string_view text, std::vector<token_id>& out, F&& plain) const;
    void encode_plain(std::string_view text, added_tokens mode, split_cache& cache, std::vector<token_id>& out) const;
    void encode_split(std::string_view split, split_cache& cache, std::vector<token_id>& out) const;
    bool is_whole(token_id id, std::string_view split) const;
};

namespace {

/// file[key] if file is an object that has it and it is not null.
const nlohmann::json* member(const nlohmann::json& file, const char* key) {
    if (!file.is_object()) return nullptr;
    const auto at = file.find(key);
    return at == file.end() || at->is_null() ? nullptr : &*at;
}

std::string text_member(const nlohmann::json& file, const char* key) {
    const nlohmann::json* value = member(file, key);
    return value != nullptr && value->is_string() ? value->get<std::string>() : std::string();
}

bool flag(const nlohmann::json& file, const char* key) {
    const nlohmann::json* value = member(file, key);
    return value != nullptr && value->is_boolean() && value->get<bool>();
}

/// The beginning of a value for a message.
std::string shown(const nlohmann::json& value) {
    return value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace).substr(0, 120);
}

constexpr token_id most_tokens = 1u << 22;   // Qwen3.5 has 248,320
constexpr std::size_t longest_added = 1024;  // bytes; each place of a text may be compared with as many

}  // namespace

void tokenizer::tables::load(std::string_view json) {
    tokenizer_file file = parse_tokenizer_file(json, source);
    const nlohmann::json* model = member(file.rest, "model");
    if (model == nullptr) fail("expected an object 'model', found none");
    // What did not pass as the large parts it should be stayed in the document.
    if (member(*model, "vocab") != nullptr) fail("model.vocab: expected an object");
    if (member(*model, "merges") != nullptr) fail("model.merges: expected a list");
    ids = std::move(file.vocab);
    load_model(*model, file.merges);
    load_normalizer(file.rest);
    load_pre_tokenizer(file.rest);
    if (text_member(file.rest.value("decoder", nlohmann::json::object()), "type") != "ByteLevel") {
        refuse("decoder: expected ByteLevel");
    }
    load_added(file.rest);
}

void tokenizer::tables::place(token_id id, std::string_view text, token_kind what) {
    if (id >= most_tokens)
        fail("id of '" + std::string(text) + "': expected below 4,194,304, found " + std::to_string(id));
    if (id >= entries.size()) entries.resize(std::size_t{id} + 1);
    entry& place = entries[id];
    if (place.kind == token_kind::none) {
        place = {static_cast<std::uint32_t>(bytes.size()), static_cast<std::uint32_t>(text.size()), what};
        bytes += text;
    } else if (bytes_of(id) == text && what != token_kind::vocabulary) {
        place.kind = what;
    } else {
        fail("id " + std::to_string(id) + ": expected one entry, found '" + std::string(bytes_of(id)) + "' and '" +
             std::string(text) + "'");
    }
}

void tokenizer::tables::load_model(const nlohmann::json& model, const symbol_pairs& pairs) {
    if (const std::string type = text_member(model, "type"); type != "BPE" && !type.empty()) {
        refuse("model type: expected BPE, found " + type);
    }
    for (const char* key : {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"}) {
        const nlohmann::json* value = member(model, key);
        if (value != nullptr && !(value->is_string() && value->get_ref<const std::string&>().empty())) {
            refuse(std::string("model.") + key + ": expected none, found " + shown(*value));
        }
    }
    if (flag(model, "byte_fallback")) refuse("model.byte_fallback: expected false, found true");
    ignore_merges = flag(model, "ignore_merges");
    if (ids.size() == 0) fail("model.vocab: expected entries, found none");
    for (std::size_t b = 0; b < 256; ++b) {
        const token_id* id = ids.find(to_utf8(byte_characters[b]));
        if (id == nullptr) fail("model.vocab: expected an entry for every byte, found none for " + std::to_string(b));
        byte_ids[b] = *id;
    }
    whole.reserve(ids.size());
    std::string text;
    ids.for_each([&](std::string_view spelling, token_id id) {
        const bool in_bytes = bytes_of_entry(spelling, text);
        place(id, text, token_kind::vocabulary);
        if (!in_bytes) return;
        whole.insert(text, id);
        longest_whole = std::max(longest_whole, text.size());
    });
    stands_alone = std::make_unique<std::atomic<std::uint8_t>[]>(entries.size());

    merges.reset(pairs.size(), byte_ids);
    for (std::size_t rank = 0; rank < pairs.size(); ++rank) {
        const token_id* parts[] = {ids.find(pairs.left(rank)), ids.find(pairs.right(rank)),
                                   ids.find(pairs.joined(rank))};
        if (std::ranges::find(parts, nullptr) != std::end(parts)) {
            fail("merge " + std::to_string(rank) +
                 ": expected two entries of the vocabulary that make a third, found '" + std::string(pairs.left(rank)) +
                 "' and '" + std::string(pairs.right(rank)) + "'");
        }
        merges.insert(*parts[0], *parts[1], *parts[2]);
    }
}

void tokenizer::tables::load_normalizer(const nlohmann::json& file) {
    const nlohmann::json* normalizer = member(file, "normalizer");
    if (normalizer == nullptr) return;
    const std::string type = text_member(*normalizer, "type");
    if (type == "Sequence" && member(*normalizer, "normalizers") != nullptr) {
        for (const auto& step : *member(*normalizer, "normalizers")) {
            if (text_member(step, "type") != "NFC")
                refuse("normalizer: expected NFC, found " + text_member(step, "type"));
            nfc = true;
        }
        return;
    }
    if (type != "NFC") refuse("normalizer: expected NFC, found " + type);
    nfc = true;
}

void tokenizer::tables::load_pre_tokenizer(const nlohmann::json& file) {
    const nlohmann::json* pre = member(file, "pre_tokenizer");
    if (pre == nullptr) fail("pre_tokenizer: expected a Split and a ByteLevel step, found none");
    std::vector<nlohmann::json> steps;
    if (text_member(*pre, "type") == "Sequence" && member(*pre, "pretokenizers") != nullptr) {
        for (const auto& step : *member(*pre, "pretokenizers")) steps.push_back(step);
    } else {
        steps.push_back(*pre);
    }
    bool has_split = false, has_bytes = false;
    for (const auto& step : steps) {
        const std::string type = text_member(step, "type");
        if (type == "Split" && !has_split) {
            const nlohmann::json* text = member(step, "pattern");
            const std::string regex = text != nullptr ? text_member(*text, "Regex") : std::string();
            if (regex.empty()) refuse("pre_tokenizer: expected a Split by a regular expression");
            if (text_member(step, "behavior") != "Isolated" || flag(step, "invert")) {
                refuse("pre_tokenizer: expected a Split that isolates its matches");
            }
            pattern = splitter(regex, source);
            has_split = true;
        } else if (type == "ByteLevel") {
            if (flag(step, "add_prefix_space")) refuse("pre_tokenizer: expected no prefix space");
            if (flag(step, "use_regex")) refuse("pre_tokenizer: expected ByteLevel without a pattern of its own");
            has_bytes = true;
        } else {
            refuse("pre_tokenizer: expected Split, then ByteLevel, found " + type);
        }
    }
    if (!has_split || !has_bytes) refuse("pre_tokenizer: expected Split, then ByteLevel");
}

void tokenizer::tables::load_added(const nlohmann::json& file) {
    const nlohmann::json* list = member(file, "added_tokens");
    if (list == nullptr) return;
    if (!list->is_array()) fail("added_tokens: expected a list, found " + shown(*list));
    for (const auto& token : *list) {
        const std::string content = text_member(token, "content");
        const nlohmann::json* id = member(token, "id");
        if (content.empty() || id == nullptr || !id->is_number_unsigned() || id->get<std::uint64_t>() >= most_tokens) {
            fail("added_tokens: expected an id below 4,194,304 and a content, found " + shown(token));
        }
        if (content.size() > longest_added) {
            refuse("added token " + id->dump() + ": expected at most 1024 bytes, found " +
                   std::to_string(content.size()));
        }
        for (const char* key : {"single_word", "lstrip", "rstrip"}) {
            if (flag(token, key)) refuse("added token '" + content + "': " + key + ": expected false, found true");
        }
        const auto number = id->get<token_id>();
        const token_id* known = ids.find(content);
        if (known != nullptr && *known != number) {
            fail("added token '" + content + "': expected one id, found " + std::to_string(*known) + " and " +
                 std::to_string(number));
        }
        place(number, content, flag(token, "special") ? token_kind::special : token_kind::added);
        ids.insert(content, number);
        if (nfc && flag(token, "normalized")) {
            std::string storage;
            added_normal.insert({std::string(to_nfc(content, storage)), number});
        } else {
            added.insert({content, number});
        }
    }
    added.sort();
    added_normal.sort();
}

void tokenizer::tables::added_list::insert(added_token token) {
    starts[static_cast<unsigned char>(token.text[0])] = true;
    tokens.push_back(std::move(token));
}

void tokenizer::tables::added_list::sort() { std::ranges::stable_sort(tokens, {}, &added_token::text); }

/// The longest token that `text` begins with; null if there is none.
const tokenizer::tables::added_token* tokenizer::tables::added_list::longest(std::string_view text) const noexcept {
    auto first = tokens.begin(), last = tokens.end();  // those that begin with the first n bytes of the text
    const added_token* found = nullptr;
    for (std::size_t n = 0; n < text.size() && first != last; ++n) {
        const auto wanted = static_cast<unsigned char>(text[n]);
        const auto byte = [n](const added_token& t) {
            return t.text.size() == n ? -1 : int{static_cast<unsigned char>(t.text[n])};
        };
        first = std::partition_point(first, last, [&](const added_token& t) { return byte(t) < wanted; });
        last = std::partition_point(first, last, [&](const added_token& t) { return byte(t) <= wanted; });
        if (first != last && first->text.size() == n + 1) found = &*first;
    }
    return found;
}

/// Ids of the added tokens in a text, and plain(part) for what lies between them.
template <class F>
void tokenizer::tables::cut_out(const added_list& list, std::string_view text, std::vector<token_id>& out,
                                F&& plain) const {
    std::size_t begin = 0;
    for (std::size_t i = 0; i < text.size() && !list.tokens.empty();) {
        const bool may_start = list.starts[static_cast<unsigned char>(text[i])];
        const added_token* found = may_start ? list.longest(text.substr(i)) : nullptr;
        if (found == nullptr) {
            ++i;
            continue;
        }
        plain(text.substr(begin, i - begin));
        out.push_back(found->id);
        begin = i += found->text.size();
    }
    plain(text.substr(begin));
}

/// Text without added tokens but those that are looked for behind the normaliser.
void tokenizer::tables::encode_plain(std::string_view text, added_tokens mode, split_cache& cache,
                                     std::vector<token_id>& out) const {
    if (text.empty()) return;
    std::string storage;
    const std::string_view normal = nfc ? to_nfc(text, storage) : text;
    const auto plain = [&](std::string_view part) {
        pattern.split(part, [&](std::string_view split) { encode_split(split, cache, out); });
    };
    if (mode == added_tokens::recognise) {
        cut_out(added_normal, normal, out, plain);
    } else {
        plain(normal);
    }
}

/// Whether a split, which is the bytes of an entry, encodes to it alone.
bool tokenizer::tables::is_whole(token_id id, std::string_view split) const {
    constexpr std::uint8_t no = 1, yes = 2;
    if (ignore_merges) return true;
    std::uint8_t known = stands_alone[id].load(std::memory_order_relaxed);
    if (known == 0) {
        std::vector<token_id> result;
        merges.encode(split, result);
        known = result.size() == 1 && result[0] == id ? yes : no;
        stands_alone[id].store(known, std::memory_order_relaxed);
    }
    return known == yes;
}

void tokenizer::tables::encode_split(std::string_view split, split_cache& cache, std::vector<token_id>& out) const {
    if (split.size() == 1) {
        out.push_back(byte_ids[static_cast<unsigned char>(split[0])]);
        return;
    }
    const std::uint64_t hash = text_hash(split);
    split_cache::entry* seen = cache.slot(split, hash);
    if (seen != nullptr && seen->count != 0 && std::string_view(seen->text, seen->length) == split) {
        out.insert(out.end(), seen->ids, seen->ids + seen->count);
        return;
    }
    const std::size_t first = out.size();
    const token_id* entire = split.size() <= longest_whole ? whole.find(split, hash) : nullptr;
    if (entire != nullptr && is_whole(*entire, split)) {
        out.push_back(*entire);
    } else {
        merges.encode(split, out);
    }
    const std::size_t count = out.size() - first;
    if (seen != nullptr && count <= split_cache::most_ids) {
        seen->length = static_cast<std::uint8_t>(split.size());
        seen->count = static_cast<std::uint8_t>(count);
        std::memcpy(seen->text, split.data(), split.size());
        std::copy_n(out.data() + first, count, seen->ids);
    }
}

tokenizer::tokenizer(const std::filesystem::path& file)
    : tokenizer(hlwq::io::read_text_file(file, std::size_t{512} << 20), file.filename().string()) {}

tokenizer::tokenizer(std::string_view json, std::string_view source) : tables_(std::make_unique<tables>()) {
    tables_->source = source;
    tables_->load(json);
}

tokenizer::tokenizer(tokenizer&&) noexcept = default;
tokenizer& tokenizer::operator=(tokenizer&&) noexcept = default;
tokenizer::~tokenizer() = default;

std::vector<token_id> tokenizer::encode(std::string_view text, added_tokens mode) const {
    if (const std::size_t at = find_invalid_utf8(text); at != text.npos) {
        hlwq::throw_error<hlwq::format_error>("text to encode: byte " + std::to_string(at) +
                                              ": expected UTF-8, found 0x" +
                                              "0123456789abcdef"[static_cast<unsigned char>(text[at]) >> 4] +
                                              "0123456789abcdef"[static_cast<unsigned char>(text[at]) & 15]);
    }
    std::vector<token_id> out;
    out.reserve(text.size() / 4 + 8);
    split_cache cache(text.size());
    const auto plain = [&](std::string_view part) { tables_->encode_plain(part, mode, cache, out); };
    if (mode == added_tokens::recognise) {
        tables_->cut_out(tables_->added, text, out, plain);
    } else {
        plain(text);
    }
    return out;
}

std::string tokenizer::decode(std::span<const token_id> ids, bool skip_special) const {
    std::string bytes;
    for (const token_id id : ids) {
        if (!(skip_special && is_special(id))) bytes += bytes_of(id);
    }
    return replace_invalid_utf8(bytes);
}

std::string_view tokenizer::bytes_of(token_id id) const noexcept { return tables_->bytes_of(id); }
bool tokenizer::is_special(token_id id) const noexcept {
    return id < size() && tables_->entries[id].kind == tables::token_kind::special;
}
bool tokenizer::is_added(token_id id) const noexcept {
    return is_special(id) || (id < size() && tables_->entries[id].kind == tables::token_kind::added);
}
const token_id* tokenizer::find(std::string_view content) const noexcept { return tables_->ids.find(content); }
std::size_t tokenizer::size() const noexcept { return tables_->entries.size(); }

std::string streaming_decoder::push(token_id id) {
    if (skip_special_ && tokenizer_->is_special(id)) return {};
    pending_ += tokenizer_->bytes_of(id);
    std::string text;
    std::size_t at = 0;
    while (at < pending_.size()) {
        const std::string_view rest = std::string_view(pending_).substr(at);
        const int length = character_length(rest);
        if (length > 0) {
            text += rest.substr(0, static_cast<std::size_t>(length));
        } else if (is_incomplete_character(rest)) {
            break;
        } else {
            text += replacement_character;
        }
        at += static_cast<std::size_t>(std::abs(length));
    }
    pending_.erase(0, at);
    return text;
}

std::string streaming_decoder::finish() { return replace_invalid_utf8(std::exchange(pending_, {})); }

}  // namespace qwen
