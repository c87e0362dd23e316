#include "fusefs/backends/sim/sim_url.h"

#include <algorithm>
#include <array>
#include <set>

#include "fusefs/backends/sim/sim_names.h"
#include "fusefs/units.h"

namespace fusefs {
namespace {

// A reader takes a key's value into the config and says what would be right when it can't:
// nothing when it could.
using Reader = std::string (*)(std::string_view value, SimConfig* config);

struct Key {
  std::string_view name;
  bool takes_value;
  Reader read;
};

struct CookieName {
  std::string_view name;
  SimCookies style;
};
constexpr std::array<CookieName, 6> kCookieNames = {{{"ordered", SimCookies::kOrdered},
                                                     {"hashed", SimCookies::kHashed},
                                                     {"descending", SimCookies::kDescending},
                                                     {"huge", SimCookies::kHuge},
                                                     {"index", SimCookies::kIndex},
                                                     {"name", SimCookies::kName}}};

struct FaultName {
  std::string_view name;
  double SimFaultRates::*rate;
};
constexpr std::array<FaultName, 8> kFaultNames = {{{"error", &SimFaultRates::error},
                                                   {"timeout", &SimFaultRates::timeout},
                                                   {"disconnect", &SimFaultRates::disconnect},
                                                   {"repeat", &SimFaultRates::repeat},
                                                   {"empty", &SimFaultRates::empty},
                                                   {"badname", &SimFaultRates::badname},
                                                   {"lostreply", &SimFaultRates::lostreply},
                                                   {"reboot", &SimFaultRates::reboot}}};

template <typename Table>
std::string names_of(const Table& table) {
  std::string list;
  for (const auto& row : table) {
    if (!list.empty()) list += ", ";
    list += row.name;
  }
  return list;
}

// A count in [least, most], or nothing.
std::optional<uint64_t> count_within(std::string_view text, uint64_t least, uint64_t most) {
  const cache::Result<uint64_t> count = parse_count(text);
  if (!count.ok() || count.value() < least || count.value() > most) return std::nullopt;
  return count.value();
}

std::string read_big(std::string_view value, SimConfig* config) {
  config->big = count_within(value, 0, kSimMaxObjects);
  return config->big ? "" : "a number of files up to 1000G, such as big=1000000";
}

std::string read_tree(std::string_view value, SimConfig* config) {
  constexpr const char* kRight =
      "directories x files in each, such as tree=1000x50, together up to 1000G";
  const size_t cross = value.find('x');
  if (cross == std::string_view::npos) return kRight;
  const auto directories = count_within(value.substr(0, cross), 0, kSimMaxObjects);
  const auto files = count_within(value.substr(cross + 1), 0, kSimMaxObjects);
  if (!directories || !files) return kRight;
  if (*files > 0 && *directories > kSimMaxObjects / *files) return kRight;
  config->tree = SimTreeShape{.directories = *directories, .files = *files};
  return "";
}

std::string read_deep(std::string_view value, SimConfig* config) {
  config->deep = count_within(value, 0, kSimMaxObjects);
  return config->deep ? "" : "a depth, such as deep=100";
}

std::string read_mix(std::string_view, SimConfig* config) {
  config->mix = true;
  return "";
}

std::string read_name_len(std::string_view value, SimConfig* config) {
  const auto length = count_within(value, 1, kSimMaxName);
  if (!length) return "bytes from 1 to 255, such as name_len=24";
  config->name_len = static_cast<uint32_t>(*length);
  return "";
}

bool read_time(std::string_view value, std::chrono::nanoseconds* time) {
  const auto parsed = parse_duration(value);
  if (!parsed.ok() || parsed.value() > std::chrono::hours(1)) return false;
  *time = parsed.value();
  return true;
}

std::string read_rtt(std::string_view value, SimConfig* config) {
  return read_time(value, &config->rtt) ? "" : "a time up to 1h, such as rtt=10ms";
}

std::string read_jitter(std::string_view value, SimConfig* config) {
  return read_time(value, &config->jitter) ? "" : "a time up to 1h, such as jitter=2ms";
}

std::string read_bandwidth(std::string_view value, SimConfig* config) {
  const auto bytes = parse_size(value);
  if (!bytes.ok() || bytes.value() == 0) return "bytes a second, such as bandwidth=10M";
  config->bandwidth = bytes.value();
  return "";
}

std::string read_batch(std::string_view value, SimConfig* config) {
  const auto entries = count_within(value, 1, 1'000'000);
  if (!entries) return "entries from 1 to 1M, such as batch=10000";
  config->batch = static_cast<uint32_t>(*entries);
  return "";
}

std::string read_inflight(std::string_view value, SimConfig* config) {
  const auto requests = count_within(value, 1, 1'000'000);
  if (!requests) return "requests from 1 to 1M, such as inflight=8";
  config->inflight = static_cast<uint32_t>(*requests);
  return "";
}

std::string read_cookies(std::string_view value, SimConfig* config) {
  for (const CookieName& known : kCookieNames) {
    if (known.name != value) continue;
    config->cookies = known.style;
    return "";
  }
  return "one of " + names_of(kCookieNames);
}

std::string read_eofcookie(std::string_view value, SimConfig* config) {
  config->eof_sentinel = true;
  return value == "sentinel" ? "" : "eofcookie=sentinel";
}

std::string read_verifier(std::string_view value, SimConfig* config) {
  config->strict_verifier = true;
  return value == "strict" ? "" : "verifier=strict";
}

std::string read_churn(std::string_view value, SimConfig* config) {
  const auto rate = count_within(value, 0, kSimMaxChurn);
  if (!rate) return "entries a second up to 1M, such as churn=100";
  config->churn = *rate;
  return "";
}

// Yes or no, into `flag`; what would be right when it is neither.
std::string read_flag(std::string_view value, const char* right, bool* flag) {
  *flag = value == "yes";
  return value == "yes" || value == "no" ? "" : right;
}

std::string read_wcc(std::string_view value, SimConfig* config) {
  return read_flag(value, "wcc=yes or wcc=no", &config->wcc);
}

std::string read_unstable(std::string_view value, SimConfig* config) {
  return read_flag(value, "unstable=yes or unstable=no", &config->unstable);
}

std::string read_fold(std::string_view value, SimConfig* config) {
  return read_flag(value, "fold=yes or fold=no", &config->fold);
}

std::string read_xattr(std::string_view value, SimConfig* config) {
  return read_flag(value, "xattr=yes or xattr=no", &config->xattr);
}

std::string read_space(std::string_view value, SimConfig* config) {
  const auto bytes = parse_size(value);
  if (!bytes.ok() || bytes.value() == 0) return "bytes, such as space=100M";
  config->space = bytes.value();
  return "";
}

bool read_fault(std::string_view fault, SimFaultRates* rates) {
  const size_t colon = fault.find(':');
  if (colon == std::string_view::npos) return false;
  const auto rate = parse_rate(fault.substr(colon + 1));
  if (!rate.ok()) return false;
  for (const FaultName& known : kFaultNames) {
    if (known.name != fault.substr(0, colon)) continue;
    rates->*known.rate = rate.value();
    return true;
  }
  return false;
}

std::string read_faults(std::string_view value, SimConfig* config) {
  while (true) {
    const size_t plus = value.find('+');
    if (!read_fault(value.substr(0, plus), &config->faults)) {
      return "KIND:RATE joined by '+', such as faults=error:0.01+timeout:1%, with the kinds " +
             names_of(kFaultNames);
    }
    if (plus == std::string_view::npos) return "";
    value.remove_prefix(plus + 1);
  }
}

std::string read_seed(std::string_view value, SimConfig* config) {
  const auto seed = parse_count(value);
  if (!seed.ok()) return "a number, such as seed=1";
  config->seed = seed.value();
  return "";
}

constexpr std::array<Key, 21> kKeys = {
    {{"big", true, read_big},           {"tree", true, read_tree},
     {"deep", true, read_deep},         {"mix", false, read_mix},
     {"name_len", true, read_name_len}, {"rtt", true, read_rtt},
     {"jitter", true, read_jitter},     {"bandwidth", true, read_bandwidth},
     {"batch", true, read_batch},       {"inflight", true, read_inflight},
     {"cookies", true, read_cookies},   {"eofcookie", true, read_eofcookie},
     {"verifier", true, read_verifier}, {"churn", true, read_churn},
     {"wcc", true, read_wcc},           {"unstable", true, read_unstable},
     {"xattr", true, read_xattr},       {"space", true, read_space},
     {"fold", true, read_fold},         {"faults", true, read_faults},
     {"seed", true, read_seed}}};

// Reads one KEY=VALUE; what is wrong with it, or nothing.
std::string read_item(std::string_view item, SimConfig* config, std::set<std::string_view>* seen) {
  const size_t equals = item.find('=');
  const std::string_view name = item.substr(0, equals);
  const auto key = std::find_if(kKeys.begin(), kKeys.end(),
                                [&](const Key& known) { return known.name == name; });
  if (key == kKeys.end()) {
    return "unknown key '" + std::string(name) + "'; known keys: " + names_of(kKeys);
  }
  if (!seen->insert(key->name).second) return "key '" + std::string(name) + "' is given twice";
  const bool has_value = equals != std::string_view::npos;
  if (has_value && !key->takes_value) return "key '" + std::string(name) + "' takes no value";
  const std::string_view value = has_value ? item.substr(equals + 1) : std::string_view();
  const std::string right = key->read(value, config);
  if (right.empty()) return "";
  const std::string wrong = has_value ? "'" + std::string(item) + "' is not understood"
                                      : "key '" + std::string(name) + "' needs a value";
  return wrong + "; it takes " + right;
}

}  // namespace

std::optional<SimConfig> parse_sim_url(std::string_view url_rest, std::string* error_text) {
  SimConfig config;
  std::set<std::string_view> seen;
  while (!url_rest.empty()) {
    const size_t comma = url_rest.find(',');
    std::string wrong = read_item(url_rest.substr(0, comma), &config, &seen);
    if (wrong.empty() && comma == url_rest.size() - 1)
      wrong = "there is nothing behind the last ','";
    if (!wrong.empty()) {
      *error_text = "sim: " + wrong;
      return std::nullopt;
    }
    if (comma == std::string_view::npos) break;
    url_rest.remove_prefix(comma + 1);
  }
  if (!config.big && !config.tree && !config.deep && !config.mix) {
    config.big = 1000;
    config.tree = SimTreeShape{.directories = 10, .files = 100};
    config.mix = true;
  }
  const std::string wrong = check_sim_config(config);
  if (wrong.empty()) return config;
  *error_text = "sim: " + wrong;
  return std::nullopt;
}

std::string check_sim_config(const SimConfig& config) {
  const unsigned digits = sim_digits(config.big.value_or(0));
  if (config.name_len < digits) {
    return "name_len=" + std::to_string(config.name_len) +
           " is too short to tell big=" + std::to_string(*config.big) +
           " files apart; at least name_len=" + std::to_string(digits);
  }
  const bool has_cookies =
      config.cookies != SimCookies::kIndex && config.cookies != SimCookies::kName;
  if (config.eof_sentinel && !has_cookies) {
    return "eofcookie=sentinel needs a remote with cookies; use it with "
           "cookies=ordered, hashed, descending or huge";
  }
  if (config.churn > 0 && !config.big) return "churn= needs the directory it changes; add big=N";
  return "";
}

}  // namespace fusefs
