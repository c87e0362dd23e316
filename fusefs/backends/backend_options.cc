#include "fusefs/backends/backend_options.h"

#include <algorithm>

namespace fusefs {

const BackendOptionSpec* find_option(BackendOptionSpecs known, std::string_view name) {
  const auto found = std::find_if(known.begin(), known.end(),
                                  [&](const BackendOptionSpec& spec) { return spec.name == name; });
  return found == known.end() ? nullptr : &*found;
}

std::string known_options_text(BackendOptionSpecs known) {
  std::string text;
  for (const BackendOptionSpec& spec : known) {
    text += text.empty() ? "this source knows " : ", ";
    text += spec.example;
  }
  return text;
}

std::string wrong_option(BackendOptionSpecs known, const BackendOption& option) {
  const BackendOptionSpec* const spec = find_option(known, option.name);
  if (spec == nullptr) {
    const std::string knows = known_options_text(known);
    return option.name + ": unknown option; " +
           (knows.empty() ? "this source has no options of its own" : knows);
  }
  const std::string value = option.value.value_or("");
  std::string wrong;
  if (spec->value == BackendOptionSpec::Value::kNone) {
    if (option.value) wrong = "takes no value";
  } else if (value.empty()) {
    wrong = "needs a value";
  } else if (spec->wrong != nullptr) {
    wrong = spec->wrong(value);
  }
  if (wrong.empty()) return wrong;
  const std::string given = option.value ? option.name + "=" + value : option.name;
  return given + ": " + wrong + "; try " + std::string(spec->example);
}

}  // namespace fusefs
