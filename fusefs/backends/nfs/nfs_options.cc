#include "fusefs/backends/nfs/nfs_options.h"

#include <algorithm>
#include <array>

#include "fusefs/units.h"

namespace fusefs::nfs {
namespace {

using Spec = BackendOptionSpec;

uint64_t number(const std::string& value) { return parse_count(value).value(); }

std::string wrong_number(const std::string& value, uint64_t least, uint64_t most) {
  const auto count = parse_count(value);
  if (!count.ok()) return "not a number";
  if (count.value() < least || count.value() > most) {
    return "not between " + std::to_string(least) + " and " + std::to_string(most);
  }
  return "";
}

std::string wrong_version(const std::string& value) {
  if (value == "3" || value == "4" || value == "4.0") return "";
  return "cookiefs speaks NFS 3 and 4.0";
}
std::string wrong_port(const std::string& value) { return wrong_number(value, 1, 65535); }
std::string wrong_connections(const std::string& value) { return wrong_number(value, 1, 16); }
std::string wrong_timeo(const std::string& value) { return wrong_number(value, 1, 6000); }
std::string wrong_retrans(const std::string& value) { return wrong_number(value, 0, 1000); }
std::string wrong_id(const std::string& value) { return wrong_number(value, 0, UINT32_MAX - 1); }
std::string wrong_proto(const std::string& value) {
  return value == "tcp" || value == "tcp6" ? "" : "cookiefs speaks NFS over TCP";
}
std::string wrong_security(const std::string& value) {
  if (value == "sys" || value == "none") return "";
  return "only sys (the caller's numbers) and none are in this version";
}
std::string wrong_transfer(const std::string& value) {
  const auto size = parse_size(value);
  if (!size.ok()) return "not a size";
  if (size.value() < 4096 || size.value() > kMaxReplyBytes) return "not between 4K and 1M";
  return "";
}

constexpr auto kSpecs = std::to_array<Spec>({
    {.name = "version", .example = "version=3", .wrong = wrong_version},
    {.name = "vers", .example = "vers=3", .wrong = wrong_version},
    {.name = "nfsvers", .example = "nfsvers=3", .wrong = wrong_version},
    {.name = "port", .example = "port=2049", .wrong = wrong_port},
    {.name = "nfsport", .example = "nfsport=2049", .wrong = wrong_port},
    {.name = "mountport", .example = "mountport=20048", .wrong = wrong_port},
    {.name = "proto", .example = "proto=tcp", .wrong = wrong_proto},
    {.name = "tcp", .example = "tcp", .value = Spec::Value::kNone},
    {.name = "nconnect", .example = "nconnect=4", .wrong = wrong_connections},
    {.name = "hard", .example = "hard", .value = Spec::Value::kNone},
    {.name = "soft", .example = "soft", .value = Spec::Value::kNone},
    {.name = "timeo", .example = "timeo=100", .wrong = wrong_timeo},
    {.name = "retrans", .example = "retrans=2", .wrong = wrong_retrans},
    {.name = "resvport", .example = "resvport", .value = Spec::Value::kNone},
    {.name = "noresvport", .example = "noresvport", .value = Spec::Value::kNone},
    {.name = "rsize", .example = "rsize=1M", .wrong = wrong_transfer},
    {.name = "wsize", .example = "wsize=1M", .wrong = wrong_transfer},
    {.name = "sec", .example = "sec=sys", .wrong = wrong_security},
    {.name = "squash", .example = "squash", .value = Spec::Value::kNone},
    {.name = "uid", .example = "uid=1000", .wrong = wrong_id},
    {.name = "gid", .example = "gid=1000", .wrong = wrong_id},
});

using Patience = ClientOptions::Patience;

void apply(const BackendOption& given, NfsOptions* options) {
  const std::string& name = given.name;
  const std::string value = given.value.value_or("");
  if (name == "version" || name == "vers" || name == "nfsvers") {
    options->version = value == "3" ? 3 : 4;
  } else if (name == "port" || name == "nfsport") {
    options->port = static_cast<uint16_t>(number(value));
  } else if (name == "mountport") {
    options->mountport = static_cast<uint16_t>(number(value));
  } else if (name == "nconnect") {
    options->nconnect = static_cast<uint32_t>(number(value));
  } else if (name == "hard" || name == "soft") {
    options->patience = name == "hard" ? Patience::kHard : Patience::kSoft;
  } else if (name == "timeo") {
    options->timeo = std::chrono::milliseconds(100) * number(value);  // tenths of a second
  } else if (name == "retrans") {
    options->retrans = static_cast<uint32_t>(number(value));
  } else if (name == "resvport" || name == "noresvport") {
    options->source_port = name == "resvport" ? SourcePort::kReserved : SourcePort::kAny;
  } else if (name == "rsize") {
    options->rsize = static_cast<uint32_t>(parse_size(value).value());
  } else if (name == "wsize") {
    options->wsize = static_cast<uint32_t>(parse_size(value).value());
  } else if (name == "sec") {
    options->security = value == "sys" ? Security::kSys : Security::kNone;
  } else if (name == "squash") {
    options->squash = true;
  } else if (name == "uid") {
    options->uid = static_cast<uint32_t>(number(value));
  } else if (name == "gid") {
    options->gid = static_cast<uint32_t>(number(value));
  }
}

}  // namespace

BackendOptionSpecs nfs_option_specs() { return kSpecs; }

void apply_options(const BackendOptions& given, NfsOptions* options) {
  for (const BackendOption& option : given) apply(option, options);
}

}  // namespace fusefs::nfs
