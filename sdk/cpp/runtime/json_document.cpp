#include "runtime/json_document.h"

#include <set>
#include <stdexcept>
#include <vector>

namespace rubricrm {
namespace {

constexpr int kMostLevels = 200;

// Refuses what the parser would let pass, while it parses.
class Watch {
 public:
  bool operator()(int depth, Json::parse_event_t event, Json& parsed) {
    switch (event) {
      case Json::parse_event_t::object_start:
        keys_.emplace_back();
        [[fallthrough]];
      case Json::parse_event_t::array_start:
        if (depth >= kMostLevels) throw std::runtime_error("it is nested too deeply");
        break;
      case Json::parse_event_t::object_end:
        keys_.pop_back();
        break;
      case Json::parse_event_t::key: {
        const auto& key = parsed.get_ref<const std::string&>();
        if (!keys_.back().insert(key).second) throw std::runtime_error("the key \"" + key + "\" stands twice");
        break;
      }
      default:
        break;
    }
    return true;
  }

 private:
  std::vector<std::set<std::string>> keys_;  // of each object that is open
};

std::string quoted(const std::string& text) {
  const char quote = text.find('\'') != std::string::npos && text.find('"') == std::string::npos ? '"' : '\'';
  std::string result(1, quote);
  for (const char c : text) {
    if (c == '\n') {
      result += "\\n";
    } else if (c == '\r') {
      result += "\\r";
    } else if (c == '\t') {
      result += "\\t";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      static const char digits[] = "0123456789abcdef";
      result += {'\\', 'x', digits[(c >> 4) & 15], digits[c & 15]};
    } else {
      if (c == quote || c == '\\') result += '\\';
      result += c;
    }
  }
  return result + quote;
}

// Cuts a text between characters.
std::string cut(std::string text, size_t most) {
  size_t count = 0;
  for (size_t n = 0; n < text.size(); ++n) {
    if ((text[n] & 0xc0) != 0x80 && count++ == most) return text.substr(0, n);
  }
  return text;
}

void append(std::string& text, const Json& value, size_t most) {
  if (text.size() > 4 * most) return;  // what is cut anyway
  if (value.is_null()) {
    text += "None";
  } else if (value.is_boolean()) {
    text += value.get<bool>() ? "True" : "False";
  } else if (value.is_string()) {
    text += quoted(value.get_ref<const std::string&>());
  } else if (value.is_structured()) {
    text += value.is_array() ? '[' : '{';
    const char* separator = "";
    for (const auto& [key, item] : value.items()) {
      text += separator;
      if (value.is_object()) text += quoted(key) + ": ";
      append(text, item, most);
      separator = ", ";
    }
    text += value.is_array() ? ']' : '}';
  } else {
    text += value.dump();
  }
}

}  // namespace

Json parse_json(std::string_view text) {
  Watch watch;
  try {
    return Json::parse(text.begin(), text.end(), std::ref(watch));
  } catch (const Json::exception& error) {
    throw std::runtime_error(error.what());
  }
}

std::string python_text(const Json& value, size_t most) {
  std::string text;
  append(text, value, most);
  return cut(std::move(text), most);
}

}  // namespace rubricrm
