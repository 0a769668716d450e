#include "run/arguments.h"

#include <cerrno>
#include <cstdlib>

namespace rubricrm::run {

Arguments::Arguments(const std::vector<std::string>& words, const std::set<std::string>& values,
                     const std::set<std::string>& flags) {
  bool takes_options = true;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (!takes_options || word.size() < 2 || word[0] != '-') {
      words_.push_back(word);
      continue;
    }
    if (word == "--") {
      takes_options = false;
      continue;
    }
    const size_t equals = word.rfind("--", 0) == 0 ? word.find('=') : std::string::npos;
    const std::string name = word.substr(0, equals);
    if (flags.count(name) && equals == std::string::npos) {
      flags_.insert(name);
    } else if (values.count(name)) {
      if (equals == std::string::npos && i + 1 == words.size()) throw UsageError("Option " + name + " needs a value.");
      values_[name].push_back(equals == std::string::npos ? words[++i] : word.substr(equals + 1));
    } else {
      throw UsageError("No such option: " + name + ".");
    }
  }
}

std::optional<std::string> Arguments::value(const std::string& name) const {
  const auto found = values_.find(name);
  if (found == values_.end()) return std::nullopt;
  return found->second.back();
}

std::vector<std::string> Arguments::values(const std::string& name) const {
  const auto found = values_.find(name);
  return found == values_.end() ? std::vector<std::string>() : found->second;
}

std::optional<double> Arguments::number(const std::string& name) const {
  const std::optional<std::string> text = value(name);
  if (!text) return std::nullopt;
  char* end = nullptr;
  const double number = std::strtod(text->c_str(), &end);
  if (text->empty() || *end != '\0') throw UsageError(name + ": '" + *text + "' is no number.");
  return number;
}

std::optional<uint64_t> Arguments::integer(const std::string& name, uint64_t most) const {
  const std::optional<std::string> text = value(name);
  if (!text) return std::nullopt;
  char* end = nullptr;
  errno = 0;
  const unsigned long long number = std::strtoull(text->c_str(), &end, 10);
  const bool is_plain = !text->empty() && text->find_first_not_of("0123456789") == std::string::npos;
  if (!is_plain || errno == ERANGE || number > most) {
    throw UsageError(name + ": '" + *text + "' is no integer from 0 to " + std::to_string(most) + ".");
  }
  return number;
}

}  // namespace rubricrm::run
