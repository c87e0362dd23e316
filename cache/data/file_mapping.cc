#include "cache/data/file_mapping.h"

#include "cache/data/file_core.h"
#include "cache/data/write_back.h"

namespace cache {

FileMapping::FileMapping(PageCache& cache, WriteBack& write_back, uint64_t size)
    : core_(std::make_shared<FileCore>(cache, write_back.core_, size)) {}

FileMapping::~FileMapping() { core_->close(); }

Result<size_t> FileMapping::read(ReadStream& stream, const SourcePtr& source, uint64_t offset,
                                 std::span<std::byte> out, const DataWait& wait) {
  return core_->read(stream, source, offset, out, wait);
}

Status FileMapping::write(const SourcePtr& source, uint64_t offset,
                          std::span<const std::byte> bytes, const DataWait& wait) {
  return core_->write(source, offset, bytes, wait);
}

Status FileMapping::flush(Durable durable, const DataWait& wait, uint64_t from, uint64_t to,
                          const SourcePtr& through) {
  return core_->flush(durable, wait, from, to, through);
}

bool FileMapping::send_all() { return core_->send_all(); }

void FileMapping::finish_soon() { core_->finish_soon(); }

void FileMapping::note_error(int error) { core_->note_error(error); }

ErrorMark FileMapping::error_mark() const { return core_->error_mark(); }

Status FileMapping::check_error(ErrorMark& mark) { return core_->check_error(mark); }

Status FileMapping::error_since(ErrorMark& mark) const { return core_->error_since(mark); }

Result<size_t> FileMapping::read_direct(const SourcePtr& source, uint64_t offset,
                                        std::span<std::byte> out, const DataWait& wait) {
  return core_->read_direct(source, offset, out, wait);
}

Status FileMapping::write_direct(const SourcePtr& source, uint64_t offset,
                                 std::span<const std::byte> bytes, const DataWait& wait) {
  return core_->write_direct(source, offset, bytes, wait);
}

void FileMapping::Truncation::end_truncate(Remote outcome) {
  const std::shared_ptr<FileCore> core = std::exchange(core_, nullptr);
  if (core != nullptr) core->end_truncate(size_, outcome);
}

Result<std::unique_ptr<FileMapping::Truncation>> FileMapping::begin_truncate(uint64_t size,
                                                                             const DataWait& wait) {
  const Status status = core_->begin_truncate(size, wait);
  if (!status.ok()) return status;
  return std::make_unique<Truncation>(core_, size);
}

Status FileMapping::invalidate(uint64_t size) { return core_->invalidate(size); }

Status FileMapping::invalidate() { return core_->invalidate(); }
void FileMapping::set_remote_size(uint64_t size) { core_->set_remote_size(size); }
void FileMapping::discard() { core_->discard(); }
uint64_t FileMapping::size() const { return core_->size(); }
bool FileMapping::has_unwritten() const { return core_->has_unwritten(); }
TimePoint FileMapping::last_write() const { return core_->last_write(); }
FileInfo FileMapping::info() const { return core_->info(); }

}  // namespace cache
