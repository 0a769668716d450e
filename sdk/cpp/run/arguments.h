// The arguments of a command: options, and what stands by itself.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace rubricrm::run {

// A command was called wrongly: exit code 2.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Options as "--name value", "--name=value" or "--name"; "--" ends them.
class Arguments {
 public:
  // values, flags: the names of the options that a command has, with their dashes. UsageError: another one, or a
  // missing value.
  Arguments(const std::vector<std::string>& words, const std::set<std::string>& values,
            const std::set<std::string>& flags);

  bool has(const std::string& flag) const { return flags_.count(flag) > 0; }
  std::optional<std::string> value(const std::string& name) const;  // the last one
  std::vector<std::string> values(const std::string& name) const;
  // UsageError: it is no such number.
  std::optional<double> number(const std::string& name) const;
  std::optional<uint64_t> integer(const std::string& name, uint64_t most) const;
  const std::vector<std::string>& words() const { return words_; }  // that stand by themselves

 private:
  std::set<std::string> flags_;
  std::map<std::string, std::vector<std::string>> values_;
  std::vector<std::string> words_;
};

}  // namespace rubricrm::run
