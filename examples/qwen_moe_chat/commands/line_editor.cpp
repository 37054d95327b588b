#include "qwen_moe_chat/commands/line_editor.hpp"

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <system_error>
#include <utility>

#include <langinfo.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#if defined(QWEN_LIBEDIT)
#include <histedit.h>
#endif

namespace qwen {

namespace fs = std::filesystem;

#if defined(QWEN_LIBEDIT)

namespace {

constexpr int history_entries = 1000;

}  // namespace

struct line_editor::implementation {
    explicit implementation(fs::path file) : history_file(std::move(file)) {
        // Without a locale of UTF-8 libedit takes characters for bytes.
        std::setlocale(LC_CTYPE, "");
        if (std::strcmp(nl_langinfo(CODESET), "UTF-8") != 0) std::setlocale(LC_CTYPE, "C.UTF-8");
        lines = history_init();
        HistEvent event;
        history(lines, &event, H_SETSIZE, history_entries);
        history(lines, &event, H_SETUNIQUE, 1);
        if (!history_file.empty()) history(lines, &event, H_LOAD, history_file.c_str());

        editor = el_init("qwen_moe_chat", stdin, stderr, stderr);
        if (editor == nullptr) return;
        el_set(editor, EL_CLIENTDATA, this);
        el_set(editor, EL_PROMPT, &implementation::show_prompt);
        el_set(editor, EL_HIST, history, lines);
        el_set(editor, EL_EDITOR, "emacs");
        el_set(editor, EL_SIGNAL, 1);
        el_source(editor, nullptr);
        el_set(editor, EL_ADDFN, "qwen-interrupt", "end the line", &implementation::on_interrupt);
        el_set(editor, EL_ADDFN, "qwen-break", "insert a line break", &implementation::on_break);
        el_set(editor, EL_ADDFN, "qwen-paste", "insert pasted text", &implementation::on_paste);
        el_set(editor, EL_ADDFN, "qwen-suspend", "stop the program until it is continued", &implementation::on_suspend);
        // Ctrl-C is a key while a line is edited, not a signal; so is Ctrl-Z then.
        el_set(editor, EL_SETTY, "-d", "-isig", nullptr);
        el_set(editor, EL_BIND, "^C", "qwen-interrupt", nullptr);
        el_set(editor, EL_BIND, "^Z", "qwen-suspend", nullptr);
        el_set(editor, EL_BIND, "\\e\\r", "qwen-break", nullptr);
        el_set(editor, EL_BIND, "\\e\\n", "qwen-break", nullptr);
        el_set(editor, EL_BIND, "\\e[200~", "qwen-paste", nullptr);
        el_set(editor, EL_BIND, "^R", "em-inc-search-prev", nullptr);
    }

    ~implementation() {
        if (editor != nullptr) el_end(editor);
        save();
        history_end(lines);
    }
    implementation(const implementation&) = delete;
    implementation& operator=(const implementation&) = delete;

    void save() {
        if (history_file.empty()) return;
        const fs::path partial = history_file.string() + ".partial";
        HistEvent event;
        std::error_code ignored;
        if (history(lines, &event, H_SAVE, partial.c_str()) == -1) {
            fs::remove(partial, ignored);
            return;
        }
        fs::rename(partial, history_file, ignored);
    }

    static implementation& of(EditLine* editor) {
        void* self = nullptr;
        el_get(editor, EL_CLIENTDATA, &self);
        return *static_cast<implementation*>(self);
    }
    static char* show_prompt(EditLine* editor) { return of(editor).prompt.data(); }

    static unsigned char on_interrupt(EditLine* editor, int) {
        of(editor).interrupted = true;
        return CC_NEWLINE;
    }
    static unsigned char on_suspend(EditLine*, int) {
        ::kill(0, SIGTSTP);  // libedit has a handler that leaves the terminal in order
        return CC_REDISPLAY;
    }
    static unsigned char on_break(EditLine* editor, int) {
        return el_insertstr(editor, "\n") == -1 ? CC_ERROR : CC_REFRESH;
    }
    static unsigned char on_paste(EditLine* editor, int) {
        constexpr std::wstring_view end = L"\033[201~";
        std::wstring text;
        wchar_t c = 0;
        while (!text.ends_with(end)) {
            if (el_wgetc(editor, &c) != 1) return CC_EOF;
            text += c == L'\r' ? L'\n' : c;
        }
        text.resize(text.size() - end.size());
        std::erase(text, L'\0');
        while (text.ends_with(L'\n')) text.pop_back();
        if (text.empty()) return CC_NORM;
        return el_winsertstr(editor, text.c_str()) == -1 ? CC_ERROR : CC_REFRESH;
    }

    input read() {
        const bool pasting = ::isatty(STDERR_FILENO) != 0;
        const auto bracketed_paste = [&](const char* how) {
            if (!pasting) return;
            std::fputs(how, stderr);
            std::fflush(stderr);
        };
        interrupted = false;
        // Before the prompt is seen: a key that is pressed at once is one of the line already.
        el_set(editor, EL_PREP_TERM, 1);
        bracketed_paste("\033[?2004h");
        int count = 0;
        const char* line = el_gets(editor, &count);
        interrupted |= line == nullptr && count < 0 && errno == EINTR;  // a signal from elsewhere
        bracketed_paste("\033[?2004l");
        const bool none = line == nullptr || count <= 0;
        if (interrupted || none) std::fputs("\n", stderr);
        if (interrupted) return {outcome::interrupted, "", none};
        if (none) return {};
        std::string text(line, static_cast<std::size_t>(count));
        if (text.ends_with('\n')) text.pop_back();
        return {outcome::text, std::move(text), false};
    }

    void remember(const std::string& text) {
        HistEvent event;
        history(lines, &event, H_ENTER, text.c_str());
    }

    fs::path history_file;
    std::string prompt;
    bool interrupted = false;
    History* lines = nullptr;
    EditLine* editor = nullptr;
};

#else

struct line_editor::implementation {
    explicit implementation(const fs::path&) {}
    ~implementation() { std::free(buffer); }
    implementation(const implementation&) = delete;
    implementation& operator=(const implementation&) = delete;

    input read() {
        std::fputs(prompt.c_str(), stderr);
        std::fflush(stderr);
        std::string text;
        do {
            // The standard stream would not say whether Ctrl-C or the end of input broke it off.
            const ::ssize_t count = ::getline(&buffer, &capacity, stdin);
            if (count < 0) {
                const bool end = std::feof(stdin) != 0;
                std::clearerr(stdin);
                std::fputs("\n", stderr);
                if (!text.empty()) break;
                return {end ? outcome::end : outcome::interrupted, "", true};
            }
            text.append(buffer, static_cast<std::size_t>(count));
        } while (more_waits());
        if (text.ends_with('\n')) text.pop_back();
        return {outcome::text, std::move(text), false};
    }

    void remember(const std::string&) {}

    /// Nobody types the next line within a few milliseconds: it was pasted.
    static bool more_waits() {
        pollfd in{STDIN_FILENO, POLLIN, 0};
        constexpr int milliseconds = 5;
        return ::poll(&in, 1, milliseconds) == 1 && (in.revents & POLLIN) != 0;
    }

    std::string prompt;
    char* buffer = nullptr;
    std::size_t capacity = 0;
};

#endif

line_editor::line_editor(fs::path history) : implementation_(std::make_unique<implementation>(std::move(history))) {}
line_editor::~line_editor() = default;

line_editor::input line_editor::read(const std::string& prompt) {
    implementation_->prompt = prompt;
    return implementation_->read();
}

void line_editor::remember(const std::string& text) { implementation_->remember(text); }

line_editor::input read_message(line_editor& from, const std::string& prompt) {
    constexpr std::string_view quotes = "\"\"\"";
    const std::string continued = std::string(prompt.size() - 2, '.') + ". ";
    line_editor::input message = from.read(prompt);
    if (message.what != line_editor::outcome::text) return message;
    const auto add_line = [&] {
        line_editor::input next = from.read(continued);
        if (next.what == line_editor::outcome::interrupted) message = {next.what, "", false};
        if (next.what == line_editor::outcome::text) message.text += "\n" + next.text;
        return next.what == line_editor::outcome::text;
    };
    if (message.text.starts_with(quotes)) {
        message.text.erase(0, quotes.size());
        while (!message.text.ends_with(quotes)) {
            if (!add_line()) return message;  // Ctrl-D ends the block, Ctrl-C drops it
        }
        message.text.resize(message.text.size() - quotes.size());
        if (message.text.starts_with('\n')) message.text.erase(0, 1);
        if (message.text.ends_with('\n')) message.text.pop_back();
        return message;
    }
    while (message.text.ends_with('\\')) {
        message.text.pop_back();
        if (!add_line()) return message;
    }
    return message;
}

fs::path state_file(const char* program, const char* name) {
    fs::path folder;
    if (const char* state = std::getenv("XDG_STATE_HOME"); state != nullptr && *state == '/') {
        folder = state;
    } else if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/') {
        folder = fs::path(home) / ".local" / "state";
    } else {
        return {};
    }
    folder /= program;
    std::error_code ignored;
    fs::create_directories(folder, ignored);
    return folder / name;
}

}  // namespace qwen
