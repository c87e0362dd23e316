#include "fusefs/backends/sftp/dir_stream.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "cache/base/hash.h"
#include "fusefs/backends/sftp/sftp_attr.h"

namespace fusefs::sftp {
namespace {

using cache::DirAnswer;
using cache::DirRequest;

// Bytes of a directory's own size for each entry, at least, on the file systems that tell one.
constexpr uint64_t kBytesPerEntry = 20;

bool is_dot(std::string_view name) { return name == "." || name == ".."; }

}  // namespace

// ---- Place --------------------------------------------------------------------------------------

std::array<char, Place::kTokenBytes> Place::token() const {
  std::array<char, kTokenBytes> bytes{};
  std::memcpy(bytes.data(), &generation, 8);
  std::memcpy(bytes.data() + 8, &ordinal, 4);
  std::memcpy(bytes.data() + 12, &name, 8);
  return bytes;
}

std::optional<Place> Place::of_token(std::string_view token) {
  Place place;
  if (token.empty()) return place;
  if (token.size() != kTokenBytes) return std::nullopt;
  std::memcpy(&place.generation, token.data(), 8);
  std::memcpy(&place.ordinal, token.data() + 8, 4);
  std::memcpy(&place.name, token.data() + 12, 8);
  if (place.ordinal == 0) return std::nullopt;
  return place;
}

// ---- Life ---------------------------------------------------------------------------------------

DirStream::DirStream(SftpClient& client, std::string path, Follow follow, uint64_t directory,
                     Place start)
    : client_(client),
      path_(std::move(path)),
      follow_(follow),
      directory_(directory),
      place_(start),
      tail_(start) {}

DirStream::~DirStream() {
  if (attributes_key_ != 0) client_.cancel(attributes_key_);
  if (open_key_ != 0) client_.cancel(open_key_);
  finish_reading();
}

void DirStream::advance() {
  if (state_ == State::kReading && connection_ != client_.connection()) interrupt();
  if (state_ == State::kIdle) open();
  read_ahead();
}

void DirStream::read_ahead() {
  if (state_ == State::kReading) send_readdirs();
}

void DirStream::open() {
  state_ = State::kOpening;
  passed_ = 0;
  dropping_ = tail_.ordinal > 0;
  last_batch_ = 0;
  window_ = {};
  // The token is told before the names are read: a change in between shows in the next one.
  attributes_key_ =
      client_.submit(follow_ == Follow::kLinks ? stat_request(path_) : lstat_request(path_),
                     SftpClient::kAnyConnection,
                     [this](const SftpClient::Answer& answer) { on_attributes(answer); });
  open_key_ = client_.submit(opendir_request(path_), SftpClient::kAnyConnection,
                             [this](const SftpClient::Answer& answer) { on_handle(answer); });
}

void DirStream::on_attributes(const SftpClient::Answer& answer) {
  attributes_key_ = 0;
  const auto attrs = answer.error == 0 && answer.type == PacketType::kAttrs
                         ? parse_attrs(answer.body)
                         : std::nullopt;
  const uint64_t token = attrs ? change_token(*attrs, wall_seconds_now()) : unique_token();
  // A stream that was opened again goes on under the number that its last token has.
  tail_.generation = token;
  if (ahead_ == 0) place_.generation = token;
  expected_ = attrs && attrs->has(FileAttrs::kSize) ? attrs->size / kBytesPerEntry : 0;
}

void DirStream::on_handle(const SftpClient::Answer& answer) {
  open_key_ = 0;
  if (answer.error == EPROTO) return fail(EIO);
  if (answer.error != 0) return fail(answer.error == ECONNRESET ? EIO : answer.error);
  const auto handle = answer.type == PacketType::kHandle ? parse_handle(answer.body) : std::nullopt;
  if (!handle) {
    const auto status =
        answer.type == PacketType::kStatus ? parse_status(answer.body) : std::nullopt;
    const int error = status && *status != StatusCode::kOk ? errno_of(*status) : EIO;
    return fail(error == ENOENT ? ESTALE : error);
  }
  handle_ = *handle;
  connection_ = client_.connection();
  state_ = State::kReading;
  const uint64_t to_skip = tail_.ordinal / kNamesPerReply + 1;
  window_.expect(std::max(expected_ / kNamesPerReply + 1, to_skip), client_.least_latency());
  send_readdirs();
}

void DirStream::close_handle() {
  if (handle_.empty()) return;
  if (connection_ == client_.connection()) {
    client_.submit(close_request(handle_), connection_, [](const SftpClient::Answer&) {});
  }
  handle_.clear();
}

// No more replies are wanted.
void DirStream::finish_reading() {
  for (const Slot& slot : slots_) {
    if (!slot.answered) client_.cancel(slot.key);
  }
  first_serial_ += slots_.size();
  slots_.clear();
  close_handle();
}

void DirStream::interrupt() {
  finish_reading();
  state_ = State::kIdle;
  if (++reopens_ > kMaxReopens) fail(EIO);
}

void DirStream::fail(int error) {
  finish_reading();
  state_ = State::kFailed;
  error_ = error;
}

// ---- Reading ahead ------------------------------------------------------------------------------

// A listing that is given up early has not read the whole of a huge directory for nothing.
size_t DirStream::ahead_limit() const {
  const uint64_t by_use = std::max<uint64_t>(2 * taken_, 4 * kNamesPerReply);
  const uint64_t at_first = std::min<uint64_t>(expected_, kMaxAheadAtFirst);
  return std::min<uint64_t>(std::max(by_use, at_first), kMaxAhead);
}

void DirStream::send_readdirs() {
  // What is to be dropped takes no room.
  const uint64_t drops =
      dropping_ ? std::max(tail_.ordinal, passed_) - passed_ + kNamesPerReply : 0;
  const size_t limit = ahead_limit() + drops;
  while (slots_.size() < window_.size() && ahead_ + slots_.size() * kNamesPerReply < limit) {
    const uint64_t serial = first_serial_ + slots_.size();
    Slot& slot = slots_.emplace_back();
    slot.key = client_.submit(readdir_request(handle_), connection_,
                              [this, serial](const SftpClient::Answer& a) { on_names(serial, a); });
  }
}

void DirStream::on_names(uint64_t serial, const SftpClient::Answer& answer) {
  // Those of an enumeration that is over were cancelled.
  Slot& slot = slots_.at(serial - first_serial_);
  const bool full = slots_.size() >= window_.size();
  read_answer(answer, &slot);
  if (answer.error == 0) window_.on_reply(answer.latency, client_.least_latency(), full);
  apply_in_order();
}

void DirStream::read_answer(const SftpClient::Answer& answer, Slot* slot) {
  slot->answered = true;
  slot->error = answer.error;
  if (answer.error != 0) return;
  slot->error = EPROTO;
  if (answer.type == PacketType::kName) {
    if (auto names = parse_names(answer.body)) {
      slot->names = std::move(*names);
      slot->error = 0;
    }
  } else if (answer.type == PacketType::kStatus) {
    const auto status = parse_status(answer.body);
    if (status == StatusCode::kEof) {
      slot->error = kEnd;
    } else if (status && *status != StatusCode::kOk) {
      slot->error = errno_of(*status);
    }
  }
}

void DirStream::apply_in_order() {
  while (state_ == State::kReading && !slots_.empty() && slots_.front().answered) {
    Slot slot = std::move(slots_.front());
    slots_.pop_front();
    ++first_serial_;
    apply(std::move(slot));
  }
}

void DirStream::apply(Slot&& slot) {
  if (slot.error == kEnd) {
    if (dropping_) return fail(cache::kErrBadCookie);
    finish_reading();
    state_ = State::kEnded;
    return;
  }
  if (slot.error == EBADMSG && ++nonsense_ > kMaxNonsense) return fail(EIO);
  if (slot.error == ECONNRESET || slot.error == EBADMSG) return interrupt();
  if (slot.error != 0) return fail(slot.error == EPROTO ? EIO : slot.error);
  // A server that gives nothing, or the same again and again, would never come to an end.
  const uint64_t hash = cache::hash_bytes(slot.names.bytes);
  const bool repeated = !slot.names.entries.empty() && hash == std::exchange(last_batch_, hash);
  if (slot.names.entries.empty() || repeated) {
    if (repeated || ++empty_replies_ > kMaxEmptyReplies) fail(EIO);
    return;
  }
  empty_replies_ = 0;
  Batch batch{.names = std::move(slot.names), .next = 0};
  std::erase_if(batch.names.entries,
                [&](const Names::Entry& entry) { return is_dot(batch.names.name(entry)); });
  if (!drop_known(&batch)) return fail(cache::kErrBadCookie);
  const size_t count = batch.names.entries.size() - batch.next;
  if (count == 0) return;
  reopens_ = nonsense_ = 0;
  ahead_ += count;
  tail_.ordinal += static_cast<uint32_t>(count);
  tail_.name = child_inode(directory_, batch.names.name(batch.names.entries.back()));
  batches_.push_back(std::move(batch));
}

bool DirStream::drop_known(Batch* batch) {
  if (!dropping_) return true;
  while (dropping_ && batch->next < batch->names.entries.size()) {
    ++passed_;
    const std::string_view name = batch->names.name(batch->names.entries[batch->next++]);
    dropping_ = child_inode(directory_, name) != tail_.name;
  }
  if (dropping_) return passed_ < uint64_t{tail_.ordinal} + kMaxDrift;
  if (uint64_t{passed_} + kMaxDrift < tail_.ordinal) return false;
  // Where entries are still to be taken, those are counted as they were.
  if (ahead_ == 0) place_.ordinal = tail_.ordinal = passed_;
  return true;
}

bool DirStream::skip_to(const Place& place) {
  if (place.generation != place_.generation || place.ordinal < place_.ordinal) return false;
  if (state_ == State::kFailed || (state_ == State::kEnded && place.ordinal > tail_.ordinal)) {
    return false;
  }
  while (ahead_ > 0 && place_.ordinal < place.ordinal) {
    const Batch& batch = batches_.front();
    place_.name = child_inode(directory_, batch.names.name(batch.names.entries[batch.next]));
    pass_one();
  }
  if (place_.ordinal == place.ordinal) return place_.name == place.name;
  // The rest is dropped as it comes.
  if (!std::exchange(dropping_, true)) passed_ = tail_.ordinal;
  place_.ordinal = tail_.ordinal = place.ordinal;
  place_.name = tail_.name = place.name;
  return true;
}

// ---- Taking -------------------------------------------------------------------------------------

bool DirStream::ready() const {
  return ahead_ > 0 || state_ == State::kEnded || state_ == State::kFailed;
}

// The first of what was read ahead is given or dropped; its name is in `place_`.
void DirStream::pass_one() {
  ++place_.ordinal;
  --ahead_;
  Batch& batch = batches_.front();
  if (++batch.next == batch.names.entries.size()) batches_.pop_front();
}

DirAnswer DirStream::take(const DirRequest& request) {
  DirAnswer answer;
  answer.has_attrs = request.want_attrs;
  const int64_t wall = request.want_attrs ? wall_seconds_now() : 0;
  const size_t most = std::min<size_t>(ahead_, std::max<uint32_t>(request.max_entries, 1));
  answer.entries.reserve(most);
  answer.tokens.reserve(most * Place::kTokenBytes);
  if (request.want_attrs) answer.attrs.reserve(most);
  for (size_t i = 0; i < most; ++i) {
    const Batch& batch = batches_.front();
    const Names::Entry& entry = batch.names.entries[batch.next];
    const std::string_view name = batch.names.name(entry);
    place_.name = child_inode(directory_, name);
    answer.add(name, place_.name, entry_type(entry.attrs), 0);
    if (request.want_attrs) answer.attrs.push_back(to_attr(entry.attrs, place_.name, wall));
    pass_one();
    const auto token = place_.token();
    answer.add_token({token.data(), token.size()});
  }
  taken_ += most;
  if (ahead_ == 0) place_.generation = tail_.generation;
  if (ahead_ == 0 && state_ == State::kEnded) answer.eof = over_ = true;
  if (most == 0 && state_ == State::kFailed) {
    answer.error = error_;
    over_ = true;
  }
  return answer;
}

}  // namespace fusefs::sftp
