// Tokenizer: bytes of text encoded per second of processor time, and the time to load a file.
//
// HLWQ_TOKENIZER names another tokenizer.json than the embedded model's, HLWQ_TEXT another text than this project's.
#include "qwen_moe_chat/tokenizer.hpp"

#include "hlwq/io/file.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace fs = std::filesystem;

constexpr std::size_t megabyte = 1'000'000;

std::string from_environment(const char* name, const char* otherwise) {
    const char* value = std::getenv(name);
    return value != nullptr ? value : otherwise;
}

const std::string& tokenizer_path() {
    static const std::string path =
        from_environment("HLWQ_TOKENIZER", HLWQ_SOURCE "/examples/qwen_moe_chat/tiny/model/tokenizer.json");
    return path;
}

const qwen::tokenizer& loaded() {
    static const qwen::tokenizer tokens{fs::path(tokenizer_path())};
    return tokens;
}

/// English and code: the documents, headers and programs of this project in the order of their names.
std::string project_text() {
    if (const char* path = std::getenv("HLWQ_TEXT")) return hlwq::io::read_text_file(path);
    std::vector<fs::path> files;
    for (const char* folder : {"/include", "/examples", "/tests", "/docs"}) {
        if (!fs::exists(fs::path(HLWQ_SOURCE) += folder)) continue;
        for (const auto& entry : fs::recursive_directory_iterator(fs::path(HLWQ_SOURCE) += folder)) {
            const std::string kind = entry.path().extension();
            if (kind == ".hpp" || kind == ".cpp" || kind == ".py" || kind == ".md" || kind == ".txt") {
                files.push_back(entry.path());
            }
        }
    }
    std::ranges::sort(files);
    std::string text;
    for (const auto& file : files) text += hlwq::io::read_text_file(file);
    return text;
}

/// Article 1 of the Universal Declaration of Human Rights.
constexpr std::string_view languages[] = {
    "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de "
    "conscience et doivent agir les uns envers les autres dans un esprit de fraternité.\n",
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt und "
    "sollen einander im Geist der Brüderlichkeit begegnen.\n",
    "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью и должны "
    "поступать в отношении друг друга в духе братства.\n",
    "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。\n",
    "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。\n",
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.\n",
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।\n",
    "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق. وقد وهبوا عقلا وضميرا\n",
};

/// One part in eight in other languages.
std::string mixed_text() {
    const std::string plain = project_text();
    std::string text;
    std::size_t turn = 0;
    for (std::size_t at = 0; at < plain.size();) {
        std::size_t end = plain.find('\n', std::min(plain.size(), at + 1200));
        end = end == plain.npos ? plain.size() : end + 1;
        text.append(plain, at, end - at);
        text += languages[turn++ % std::size(languages)];
        at = end;
    }
    return text;
}

std::string foreign_text() {
    std::string text;
    while (text.size() < megabyte) {
        for (const auto article : languages) text += article;
    }
    return text;
}

std::string repeated(std::string_view unit) {
    std::string text;
    while (text.size() < megabyte) text += unit;
    return text;
}

void encode(benchmark::State& state, const std::string& text) {
    std::size_t ids = loaded().size();
    for (auto _ : state) {
        ids = loaded().encode(text).size();
        benchmark::DoNotOptimize(ids);
    }
    state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * static_cast<std::int64_t>(text.size()));
    state.counters["bytes/token"] =
        static_cast<double>(text.size()) / static_cast<double>(std::max<std::size_t>(ids, 1));
}

void decode(benchmark::State& state, const std::string& text) {
    const auto ids = loaded().encode(text);
    for (auto _ : state) benchmark::DoNotOptimize(loaded().decode(ids).size());
    state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * static_cast<std::int64_t>(text.size()));
}

void load(benchmark::State& state) {
    for (auto _ : state) benchmark::DoNotOptimize(qwen::tokenizer(fs::path(tokenizer_path())).size());
}

BENCHMARK(load)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, project, project_text())->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, mixed, mixed_text())->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, languages, foreign_text())->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(decode, mixed, mixed_text())->Unit(benchmark::kMillisecond);
// Inputs that are one split, or nothing but splits.
BENCHMARK_CAPTURE(encode, one_letter, repeated("a"))->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, alternating, repeated("ab"))->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, spaces, repeated(" "))->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, spaces_then_letter, repeated("                               x"))
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, newlines, repeated("\n"))->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, digits, repeated("7"))->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, punctuation, repeated("<|"))->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, combining_marks, repeated("\u0301\u0323"))->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, hangul_jamo, repeated("\u1112\u1161\u11ab"))->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, emoji, repeated("\U0001f600"))->Unit(benchmark::kMillisecond);

}  // namespace
