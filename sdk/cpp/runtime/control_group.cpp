#include "runtime/control_group.h"

#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <vector>

namespace rubricrm {
namespace {

constexpr const char* kController = "cpu";  // of version 1
constexpr const char* kDefaultMount = "/sys/fs/cgroup";
constexpr size_t kMostDigits = 30;

using Names = std::set<std::string>;
using Limit = std::optional<double>;
using ReadLimit = std::function<Limit(const fs::path& directory)>;

// A mounted tree of groups: where, the group that is seen there ("/": the whole tree), and of version 1 the controllers
// that are limited in it.
struct Mount {
  std::string point, group;
  Names controllers;
};

struct Group {
  Names controllers;  // empty: of version 2
  std::string path;
};

std::string contents(const fs::path& path) {
  try {
    return read_file(path);
  } catch (const FileError&) {
    return "";
  }
}

std::vector<std::string> split(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts;
  size_t start = 0;
  for (size_t at; (at = text.find(separator, start)) != std::string::npos; start = at + separator.size()) {
    parts.push_back(text.substr(start, at - start));
  }
  parts.push_back(text.substr(start));
  return parts;
}

std::string stripped(const std::string& text) {
  const char* const space = " \t\n\r\f\v";
  const size_t start = text.find_first_not_of(space);
  return start == std::string::npos ? "" : text.substr(start, text.find_last_not_of(space) + 1 - start);
}

Names names_in(const std::string& text) {
  Names names;
  for (const std::string& name : split(text, ",")) {
    if (!name.empty()) names.insert(name);
  }
  return names;
}

Limit number(const std::string& text) {
  const size_t start = !text.empty() && text[0] == '-' ? 1 : 0, digits = text.size() - start;
  const bool is_number =
      1 <= digits && digits <= kMostDigits && text.find_first_not_of("0123456789", start) == std::string::npos;
  return is_number ? Limit(std::stod(text)) : std::nullopt;
}

// A path of `mountinfo`, in which white space is written as octal numbers.
std::string unescaped(const std::string& field) {
  const auto is_octal = [&](size_t at) { return at < field.size() && '0' <= field[at] && field[at] <= '7'; };
  std::string result;
  for (size_t n = 0; n < field.size(); ++n) {
    if (field[n] == '\\' && is_octal(n + 1) && is_octal(n + 2) && is_octal(n + 3)) {
      result += static_cast<char>(std::stoi(field.substr(n + 1, 3), nullptr, 8));
      n += 3;
    } else {
      result += field[n];
    }
  }
  return result;
}

fs::path below(const fs::path& root, const std::string& path) {
  const size_t start = path.find_first_not_of('/');
  return start == std::string::npos ? root : root / path.substr(start);
}

std::vector<Group> groups(const fs::path& root) {
  std::vector<Group> found;
  for (const std::string& line : split(contents(below(root, "/proc/self/cgroup")), "\n")) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos || first == 0 || second + 1 >= line.size() || line[second + 1] != '/') continue;
    if (line.find_first_not_of("0123456789") != first) continue;
    found.push_back({names_in(line.substr(first + 1, second - first - 1)), line.substr(second + 1)});
  }
  if (found.empty()) found = {{{}, "/"}, {{kController}, "/"}};
  return found;
}

std::vector<Mount> mounts(const fs::path& root) {
  std::vector<Mount> found;
  for (const std::string& line : split(contents(below(root, "/proc/self/mountinfo")), "\n")) {
    const size_t middle = line.find(" - ");
    const std::vector<std::string> fields = split(line.substr(0, middle), " ");
    const std::vector<std::string> kind = split(middle == std::string::npos ? "" : line.substr(middle + 3), " ");
    if (fields.size() < 5 || (kind[0] != "cgroup" && kind[0] != "cgroup2")) continue;
    const bool is_version_1 = kind[0] == "cgroup";
    found.push_back({unescaped(fields[4]), unescaped(fields[3]), is_version_1 ? names_in(kind.back()) : Names()});
  }
  return found;
}

// Where the trees are by convention, for where `mountinfo` does not tell.
std::vector<Mount> usual_mounts(const Names& controllers) {
  if (controllers.empty()) return {{kDefaultMount, "/", {}}};
  std::string joined;
  for (const std::string& name : controllers) joined += (joined.empty() ? "" : ",") + name;
  std::vector<Mount> found;
  for (const std::string& name : Names{kController, joined}) {
    found.push_back({std::string(kDefaultMount) + "/" + name, "/", controllers});
  }
  return found;
}

// The names that lead from a mount point to a group; none where it is not in that part of the tree.
std::optional<std::vector<std::string>> names_below(const Mount& mount, const std::string& group) {
  const auto parts = [](const std::string& path) {
    std::vector<std::string> names;
    for (const std::string& name : split(path, "/")) {
      if (!name.empty() && name != ".") names.push_back(name);
    }
    return names;
  };
  const std::vector<std::string> top = parts(mount.group), names = parts(group);
  if (mount.group.empty() || mount.group[0] != '/' || names.size() < top.size() ||
      !std::equal(top.begin(), top.end(), names.begin())) {
    return std::nullopt;
  }
  const std::vector<std::string> rest(names.begin() + static_cast<long>(top.size()), names.end());
  if (std::find(rest.begin(), rest.end(), "..") != rest.end()) return std::nullopt;
  return rest;
}

// The directory of a group and of its parents, as far as they are mounted. A container may see its own group at the
// mount point, and yet be told the group's path on the host; or be in a group outside what it sees. Then the mount
// point is all that can be looked at.
std::vector<std::string> lineages(const std::vector<Mount>& mounts, const std::string& group) {
  std::vector<std::string> found;
  for (const Mount& mount : mounts) {
    const auto names = names_below(mount, group);
    if (!names) continue;
    std::string place = mount.point;
    found.push_back(place);
    for (const std::string& name : *names) found.push_back(place += "/" + name);
  }
  if (!found.empty()) return found;
  for (const Mount& mount : mounts) found.push_back(mount.point);
  return found;
}

Limit tightest(const fs::path& root, const ReadLimit& read_2, const ReadLimit& read_1) {
  const std::vector<Mount> all = mounts(root);
  Limit limit;
  for (const Group& group : groups(root)) {
    if (!group.controllers.empty() && group.controllers.count(kController) == 0) continue;
    std::vector<Mount> places;
    std::copy_if(all.begin(), all.end(), std::back_inserter(places), [&](const Mount& mount) {
      return group.controllers.empty() ? mount.controllers.empty() : mount.controllers.count(kController) != 0;
    });
    if (places.empty()) places = usual_mounts(group.controllers);
    for (const std::string& directory : lineages(places, group.path)) {
      const Limit found = (group.controllers.empty() ? read_2 : read_1)(below(root, directory));
      if (found && (!limit || *found < *limit)) limit = found;
    }
  }
  return limit;
}

Limit cores(Limit quota, Limit period) {
  return quota && period && *quota > 0 && *period > 0 ? Limit(*quota / *period) : std::nullopt;
}

Limit number_in(const fs::path& path) { return number(stripped(contents(path))); }

}  // namespace

std::optional<double> cpu_quota(const fs::path& root) {
  const ReadLimit cpu_max = [](const fs::path& directory) {
    const std::string text = stripped(contents(directory / "cpu.max"));
    const size_t space = text.find(' ');
    return cores(number(text.substr(0, space)), number(space == std::string::npos ? "" : text.substr(space + 1)));
  };
  const ReadLimit cfs_quota = [](const fs::path& directory) {
    return cores(number_in(directory / "cpu.cfs_quota_us"), number_in(directory / "cpu.cfs_period_us"));
  };
  return tightest(root, cpu_max, cfs_quota);
}

}  // namespace rubricrm
