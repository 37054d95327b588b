#include "qwen_moe_chat/tokenizer.hpp"

#include "qwen_moe_chat/pre_tokenizer.hpp"
#include "qwen_moe_chat/tokenizer_file.hpp"
#include "qwen_moe_chat/utf8.hpp"

#include "hlwq/error.hpp"
#include "hlwq/io/file.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>
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

/// The bytes that a vocabulary entry stands for; the entry itself if it is not written in the byte alphabet.
std::string bytes_of_entry(std::string_view entry) {
    std::string bytes;
    for (std::size_t i = 0; i < entry.size();) {
        const int length = character_length(entry.substr(i));
        if (length < 0) return std::string(entry);
        const char32_t c = code_point(entry.substr(i, static_cast<std::size_t>(length)));
        if (c >= character_bytes.size() || character_bytes[c] < 0) return std::string(entry);
        bytes += static_cast<char>(character_bytes[c]);
        i += static_cast<std::size_t>(length);
    }
    return bytes;
}

// ---- merges

struct merge {
    std::uint32_t rank;
    token_id result;
};

/// Pairs of ids to merges: open addressing, because every byte of text asks several times.
class merge_table {
  public:
    void reserve(std::size_t count) {
        slots_.assign(std::bit_ceil(2 * count + 1), {empty, {}});
        mask_ = slots_.size() - 1;
    }
    /// Keeps the first of equal pairs, as the reference does not expect a second.
    void insert(token_id left, token_id right, merge value) {
        slot& s = find_slot(key(left, right));
        if (s.key == empty) s = {key(left, right), value};
    }
    const merge* find(token_id left, token_id right) const noexcept {
        const slot& s = const_cast<merge_table*>(this)->find_slot(key(left, right));
        return s.key == empty ? nullptr : &s.value;
    }

  private:
    static constexpr std::uint64_t empty = ~std::uint64_t{0};
    struct slot {
        std::uint64_t key;
        merge value;
    };
    static std::uint64_t key(token_id left, token_id right) noexcept { return std::uint64_t{left} << 32 | right; }
    slot& find_slot(std::uint64_t k) noexcept {
        std::size_t at = static_cast<std::size_t>((k * 0x9e3779b97f4a7c15ull) >> 20) & mask_;
        while (slots_[at].key != empty && slots_[at].key != k) at = (at + 1) & mask_;
        return slots_[at];
    }
    std::vector<slot> slots_;
    std::size_t mask_ = 0;
};

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
    entry* slot(std::string_view split) noexcept {
        if (entries_.empty() || split.size() > longest) return nullptr;
        std::uint64_t hash = split.size() * 0x9e3779b97f4a7c15ull;
        std::uint64_t word = 0;
        for (std::size_t i = 0; i < split.size(); i += 8) {
            word = 0;
            std::memcpy(&word, split.data() + i, std::min<std::size_t>(8, split.size() - i));
            hash = (std::rotl(hash, 23) ^ word) * 0xbf58476d1ce4e5b9ull;
        }
        return &entries_[(hash >> 40) % entries_.size()];
    }

  private:
    std::vector<entry> entries_;
};

}  // namespace

struct tokenizer::tables {
    std::string source;
    vocabulary ids;
    std::vector<std::string> bytes;  // by id
    std::vector<std::uint8_t> kind;  // by id: 0 vocabulary, 1 added, 2 special
    std::array<token_id, 256> byte_ids{};
    merge_table merges;
    bool ignore_merges = false;
    bool nfc = false;
    splitter pattern;
    std::vector<std::pair<std::string, token_id>> added;  // longest first
    std::array<bool, 256> starts_added{};

    [[noreturn]] void fail(const std::string& problem) const {
        hlwq::throw_error<hlwq::format_error>("tokenizer " + source + ": " + problem);
    }
    [[noreturn]] void refuse(const std::string& problem) const {
        hlwq::throw_error<hlwq::unsupported_error>("tokenizer " + source + ": " + problem);
    }

    void load(std::string_view json);
    void load_model(const nlohmann::json& model, const std::vector<std::pair<std::string, std::string>>& pairs);
    void load_normalizer(const nlohmann::json& file);
    void load_pre_tokenizer(const nlohmann::json& file);
    void load_added(const nlohmann::json& file);
    void place(token_id id, std::string text, std::uint8_t what);

    void encode_plain(std::string_view text, split_cache& cache, std::vector<token_id>& out) const;
    void encode_split(std::string_view split, split_cache& cache, std::vector<token_id>& out) const;
    void merge_short(std::string_view split, std::vector<token_id>& out) const;
    void merge_long(std::string_view split, std::vector<token_id>& out) const;
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

constexpr token_id most_tokens = 1u << 24;

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

void tokenizer::tables::place(token_id id, std::string text, std::uint8_t what) {
    if (id >= most_tokens) fail("id " + std::to_string(id) + ": expected less than 16,777,216");
    if (id >= bytes.size()) {
        bytes.resize(std::size_t{id} + 1);
        kind.resize(std::size_t{id} + 1, 0);
    }
    bytes[id] = std::move(text);
    kind[id] = what;
}

void tokenizer::tables::load_model(const nlohmann::json& model,
                                   const std::vector<std::pair<std::string, std::string>>& pairs) {
    if (const std::string type = text_member(model, "type"); type != "BPE" && !type.empty()) {
        refuse("model type: expected BPE, found " + type);
    }
    for (const char* key : {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"}) {
        const nlohmann::json* value = member(model, key);
        if (value != nullptr && !(value->is_string() && value->get_ref<const std::string&>().empty())) {
            refuse(std::string("model.") + key + ": expected none, found " + value->dump());
        }
    }
    if (flag(model, "byte_fallback")) refuse("model.byte_fallback: expected false");
    ignore_merges = flag(model, "ignore_merges");
    if (ids.empty()) fail("model.vocab: expected entries, found none");
    for (const auto& [entry, id] : ids) place(id, bytes_of_entry(entry), 0);
    for (std::size_t b = 0; b < 256; ++b) {
        const auto at = ids.find(to_utf8(byte_characters[b]));
        if (at == ids.end()) fail("model.vocab: byte " + std::to_string(b) + " has no entry");
        byte_ids[b] = at->second;
    }
    merges.reserve(pairs.size());
    std::string joined;
    for (std::size_t rank = 0; rank < pairs.size(); ++rank) {
        const auto& [left, right] = pairs[rank];
        joined.assign(left).append(right);
        const auto a = ids.find(left), b = ids.find(right), c = ids.find(joined);
        if (a == ids.end() || b == ids.end() || c == ids.end()) {
            fail("merge " + std::to_string(rank) + " ('" + left + "' '" + right + "'): not in the vocabulary");
        }
        merges.insert(a->second, b->second, {static_cast<std::uint32_t>(rank), c->second});
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
    if (!list->is_array()) fail("added_tokens: expected a list");
    for (const auto& token : *list) {
        const std::string content = text_member(token, "content");
        const nlohmann::json* id = member(token, "id");
        if (content.empty() || id == nullptr || !id->is_number_unsigned() || id->get<std::uint64_t>() >= most_tokens) {
            fail("added_tokens: expected id and content, found " + token.dump().substr(0, 120));
        }
        for (const char* key : {"single_word", "lstrip", "rstrip"}) {
            if (flag(token, key)) refuse("added token '" + content + "': " + key + " is not supported");
        }
        const auto number = id->get<token_id>();
        place(number, content, flag(token, "special") ? 2 : 1);
        ids.insert_or_assign(content, number);
        added.emplace_back(content, number);
        starts_added[static_cast<unsigned char>(content[0])] = true;
    }
    std::ranges::stable_sort(added, std::greater(), [](const auto& entry) { return entry.first.size(); });
}

void tokenizer::tables::encode_plain(std::string_view text, split_cache& cache, std::vector<token_id>& out) const {
    if (text.empty()) return;
    std::string storage;
    pattern.split(nfc ? to_nfc(text, storage) : text, [&](std::string_view split) { encode_split(split, cache, out); });
}

void tokenizer::tables::encode_split(std::string_view split, split_cache& cache, std::vector<token_id>& out) const {
    if (split.size() == 1) {
        out.push_back(byte_ids[static_cast<unsigned char>(split[0])]);
        return;
    }
    split_cache::entry* entry = cache.slot(split);
    if (entry != nullptr && entry->count != 0 && std::string_view(entry->text, entry->length) == split) {
        out.insert(out.end(), entry->ids, entry->ids + entry->count);
        return;
    }
    const std::size_t first = out.size();
    if (split.size() <= 48) {
        merge_short(split, out);
    } else {
        merge_long(split, out);
    }
    const std::size_t count = out.size() - first;
    if (entry != nullptr && count <= split_cache::most_ids) {
        entry->length = static_cast<std::uint8_t>(split.size());
        entry->count = static_cast<std::uint8_t>(count);
        std::memcpy(entry->text, split.data(), split.size());
        std::copy_n(out.data() + first, count, entry->ids);
    }
}

/// All pairs are looked at again after every merge, which is cheapest while they fit into a cache line or two.
void tokenizer::tables::merge_short(std::string_view split, std::vector<token_id>& out) const {
    token_id symbols[48];
    merge next[48];  // merge of symbol i with its right neighbour
    constexpr merge none{~0u, 0};
    std::size_t count = split.size();
    for (std::size_t i = 0; i < count; ++i) symbols[i] = byte_ids[static_cast<unsigned char>(split[i])];
    const auto look_up = [&](std::size_t i) {
        const merge* m = i + 1 < count ? merges.find(symbols[i], symbols[i + 1]) : nullptr;
        return m != nullptr ? *m : none;
    };
    if (ignore_merges) {
        std::string entry;
        for (const char c : split) entry += to_utf8(byte_characters[static_cast<unsigned char>(c)]);
        if (const auto at = ids.find(entry); at != ids.end()) return out.push_back(at->second);
    }
    for (std::size_t i = 0; i < count; ++i) next[i] = look_up(i);
    for (;;) {
        std::size_t best = 0;
        for (std::size_t i = 1; i < count; ++i) {
            if (next[i].rank < next[best].rank) best = i;
        }
        if (next[best].rank == none.rank) break;
        symbols[best] = next[best].result;
        --count;
        std::copy(symbols + best + 2, symbols + count + 1, symbols + best + 1);
        std::copy(next + best + 2, next + count + 1, next + best + 1);
        next[best] = look_up(best);
        if (best > 0) next[best - 1] = look_up(best - 1);
    }
    out.insert(out.end(), symbols, symbols + count);
}

/// A linked list of symbols and a heap of merges, ordered by rank and then from the left.
void tokenizer::tables::merge_long(std::string_view split, std::vector<token_id>& out) const {
    struct symbol {
        token_id id;
        std::uint32_t previous, next;
    };
    struct candidate {
        std::uint32_t rank, at;
        token_id left, right, result;
        bool operator<(const candidate& other) const noexcept {  // std::priority_queue shows the greatest
            return rank != other.rank ? rank > other.rank : at > other.at;
        }
    };
    if (split.size() >= no_token) hlwq::throw_error<hlwq::format_error>("a text without a break of 4 GiB");
    const auto size = static_cast<std::uint32_t>(split.size());
    std::vector<symbol> symbols(size);
    for (std::uint32_t i = 0; i < size; ++i) {
        symbols[i] = {byte_ids[static_cast<unsigned char>(split[i])], i == 0 ? no_token : i - 1,
                      i + 1 == size ? no_token : i + 1};
    }
    if (ignore_merges) {
        std::string entry;
        for (const char c : split) entry += to_utf8(byte_characters[static_cast<unsigned char>(c)]);
        if (const auto at = ids.find(entry); at != ids.end()) return out.push_back(at->second);
    }
    std::vector<candidate> heap;
    heap.reserve(size);
    const auto offer = [&](std::uint32_t at) {
        if (at == no_token || symbols[at].next == no_token) return;
        const token_id right = symbols[symbols[at].next].id;
        if (const merge* m = merges.find(symbols[at].id, right); m != nullptr) {
            heap.push_back({m->rank, at, symbols[at].id, right, m->result});
            std::push_heap(heap.begin(), heap.end());
        }
    };
    for (std::uint32_t i = 0; i < size; ++i) offer(i);
    while (!heap.empty()) {
        std::pop_heap(heap.begin(), heap.end());
        const candidate c = heap.back();
        heap.pop_back();
        symbol& left = symbols[c.at];
        // Stale: one of the two has been merged since.
        if (left.id != c.left || left.next == no_token || symbols[left.next].id != c.right) continue;
        symbol& right = symbols[left.next];
        left.id = c.result;
        right.id = no_token;
        left.next = right.next;
        if (left.next != no_token) symbols[left.next].previous = c.at;
        offer(left.previous);
        offer(c.at);
    }
    for (std::uint32_t at = 0; at != no_token; at = symbols[at].next) out.push_back(symbols[at].id);
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
    std::size_t plain = 0;
    if (mode == added_tokens::recognise) {
        for (std::size_t i = 0; i < text.size();) {
            const std::pair<std::string, token_id>* found = nullptr;
            if (tables_->starts_added[static_cast<unsigned char>(text[i])]) {
                for (const auto& token : tables_->added) {
                    if (text.substr(i).starts_with(token.first)) {
                        found = &token;
                        break;
                    }
                }
            }
            if (found == nullptr) {
                ++i;
                continue;
            }
            tables_->encode_plain(text.substr(plain, i - plain), cache, out);
            out.push_back(found->second);
            plain = i += found->first.size();
        }
    }
    tables_->encode_plain(text.substr(plain), cache, out);
    return out;
}

std::string tokenizer::decode(std::span<const token_id> ids, bool skip_special) const {
    std::string bytes;
    for (const token_id id : ids) {
        if (!(skip_special && is_special(id))) bytes += bytes_of(id);
    }
    return replace_invalid_utf8(bytes);
}

std::string_view tokenizer::bytes_of(token_id id) const noexcept {
    return id < tables_->bytes.size() ? std::string_view(tables_->bytes[id]) : std::string_view();
}
bool tokenizer::is_special(token_id id) const noexcept { return id < tables_->kind.size() && tables_->kind[id] == 2; }
bool tokenizer::is_added(token_id id) const noexcept { return id < tables_->kind.size() && tables_->kind[id] != 0; }
const token_id* tokenizer::find(std::string_view content) const noexcept {
    const auto at = tables_->ids.find(content);
    return at == tables_->ids.end() ? nullptr : &at->second;
}
std::size_t tokenizer::size() const noexcept { return tables_->bytes.size(); }

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
