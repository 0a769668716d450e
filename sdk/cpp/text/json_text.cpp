#include "text/json_text.h"

#include <charconv>
#include <cmath>
#include <cstdio>

namespace rubricrm {
namespace {

using Json = nlohmann::ordered_json;

void append_string(std::string& text, const std::string& value) {
  constexpr std::string_view kEscaped = "\"\\\b\f\n\r\t", kLetters = "\"\\bfnrt";
  text += '"';
  for (const char c : value) {
    const size_t known = kEscaped.find(c);
    if (known != std::string_view::npos) {
      text += '\\';
      text += kLetters[known];
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(c));
      text += escaped;
    } else {
      text += c;
    }
  }
  text += '"';
}

class Writer {
 public:
  explicit Writer(std::optional<int> indent) : indent_(indent) {}

  void write(const Json& value) {
    if (value.is_object() || value.is_array()) {
      write_items(value);
    } else if (value.is_string()) {
      append_string(text_, value.get_ref<const std::string&>());
    } else if (value.is_number_float()) {
      text_ += float_text(value.get<double>());
    } else {
      text_ += value.dump();  // integers, true, false, null: one way to write them
    }
  }

  std::string take() { return std::move(text_); }

 private:
  void write_items(const Json& value) {
    text_ += value.is_object() ? '{' : '[';
    ++depth_;
    bool is_first = true;
    for (auto item = value.begin(); item != value.end(); ++item) {
      if (!is_first) text_ += indent_ ? "," : ", ";
      is_first = false;
      break_line();
      if (value.is_object()) {
        append_string(text_, item.key());
        text_ += ": ";
      }
      write(*item);
    }
    --depth_;
    if (!is_first) break_line();
    text_ += value.is_object() ? '}' : ']';
  }

  void break_line() {
    if (indent_) text_ += "\n" + std::string(static_cast<size_t>(*indent_) * depth_, ' ');
  }

  std::optional<int> indent_;
  size_t depth_ = 0;
  std::string text_;
};

}  // namespace

std::string json_text(const Json& value, std::optional<int> indent) {
  Writer writer(indent);
  writer.write(value);
  return writer.take();
}

std::string float_text(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  const std::string scientific(buffer, end);
  const size_t e = scientific.find('e');
  const int exponent = std::stoi(scientific.substr(e + 1));
  if (exponent < -4 || exponent >= 16) return scientific;
  const auto fixed_end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed).ptr;
  const std::string fixed(buffer, fixed_end);
  return fixed.find('.') == std::string::npos ? fixed + ".0" : fixed;
}

}  // namespace rubricrm
