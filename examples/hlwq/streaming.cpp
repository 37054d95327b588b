#include "hlwq/streaming.hpp"

#include <algorithm>
#include <string>

namespace tool {

namespace {

constexpr std::uint64_t mebibyte = std::uint64_t{1} << 20;
// The system maps neighbours of a page that is read, as far as they are in its cache: 64 KiB around either end.
constexpr std::uint64_t fault_around = 2 * 64 * 1024;
// Larger steps gain nothing and delay the answer to an interrupt.
constexpr std::uint64_t largest_step = 32 * mebibyte;
constexpr std::uint64_t largest_pages = 32 * mebibyte;
constexpr std::size_t copy_step = 1 * mebibyte;
// Least memory to work with beyond one row: page tables, the allocator's reserves, what is copied.
constexpr std::uint64_t reserve = 8 * mebibyte;

}  // namespace

void mapped_pages::passed(std::uint64_t bytes) noexcept {
    resident_ += bytes + fault_around;
    if (resident_ >= limit_) release();
}

void mapped_pages::release() noexcept {
    // Whole files: pages that were mapped beside those that were asked for must not stay either.
    for (const auto& file : model_->files()) hlwq::io::mapped_file::release(file.file().bytes());
    resident_ = 0;
}

memory_budget::memory_budget(std::uint64_t limit, std::uint64_t fixed, std::uint64_t row) {
    const std::uint64_t base = peak_resident_set() + fixed + reserve;
    const std::uint64_t minimum = base + 2 * (row + fault_around);
    if (limit < minimum) {
        throw usage_error("--max-ram: expected at least " + std::to_string(minimum / mebibyte + 1) +
                          "MiB for this checkpoint, found " + std::to_string(limit / mebibyte) + "MiB");
    }
    pages_ = std::min(largest_pages, (limit - base) / 2);
    step_ = std::min(largest_step, (limit - base) / 2);
}

std::size_t memory_budget::rows(std::uint64_t row_bytes) const noexcept {
    return static_cast<std::size_t>(std::max<std::uint64_t>(1, step_ / std::max<std::uint64_t>(1, row_bytes)));
}

std::uint64_t memory_of(const shard_plan& plan) {
    // Lists and header of a file, and the state of the run.
    std::size_t most = 0, all = 0;
    for (const shard& file : plan.shards) {
        most = std::max(most, file.order.size());
        all += file.order.size();
    }
    return 1024 * most + 256 * all + 1024 * plan.shards.size();
}

void write_shards(const shard_plan& plan, output_folder& folder, piece_writer& writer, console::progress& bar) {
    for (const shard& file : plan.shards) {
        if (const auto notes = folder.finished(file.name)) {
            writer.restore(file, *notes);
            std::uint64_t weights = 0, bytes = 0;
            for (std::size_t p = file.first_piece; p < file.last_piece; ++p) {
                weights += plan.pieces[p].weights;
                bytes += plan.pieces[p].read_bytes;
            }
            bar.skip(weights, bytes);
            continue;
        }
        std::vector<hlwq::safetensors::planned_tensor> tensors;
        tensors.reserve(file.order.size());
        for (const placement& at : file.order) tensors.push_back(plan.pieces[at.piece].outputs[at.output]);
        hlwq::safetensors::writer out(folder.path(file.name), std::move(tensors));
        for (const placement& at : file.order) writer.write(plan.pieces[at.piece], at.output, out);
        out.finish();
        folder.record(file.name, out.written(), out.checksum(), writer.notes(file));
    }
    check_interrupted();
    folder.complete();
}

void copy_tensor(std::span<const std::byte> bytes, std::uint64_t weights, const std::string& name, mapped_pages& pages,
                 console::progress& bar, hlwq::safetensors::writer& to) {
    const auto size = static_cast<double>(bytes.size());
    std::uint64_t counted = 0;
    while (!bytes.empty()) {
        check_interrupted();
        const auto part = bytes.first(std::min(bytes.size(), copy_step));
        to.append(part);
        bytes = bytes.subspan(part.size());
        pages.passed(part.size());
        const double left = static_cast<double>(bytes.size()) / size;
        const std::uint64_t done = weights - static_cast<std::uint64_t>(left * static_cast<double>(weights));
        bar.advance(done - counted, part.size(), name);
        counted = done;
    }
}

std::vector<std::filesystem::path> tensor_files(const hlwq::checkpoint::reader& model) {
    std::vector<std::filesystem::path> paths;
    for (const auto& file : model.files()) paths.push_back(file.file().path());
    return paths;
}

}  // namespace tool
