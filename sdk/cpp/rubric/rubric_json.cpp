#include <cstdio>

#include "rubric/rubric.h"

namespace rubricrm {
namespace {

// Of the values that `to_json` writes. It changes where a reader of the old form would read the new one wrongly.
constexpr int kSchemaVersion = 1;

// Writes JSON as Python's json.dumps(..., ensure_ascii=False, indent=...) does.
class Writer {
 public:
  explicit Writer(std::optional<int> indent) : indent_(indent) {}

  // Before each item of an object or a list; `bracket` opens it.
  void open(char bracket) {
    text_ += bracket;
    ++depth_;
    is_first_ = true;
  }

  void close(char bracket) {
    --depth_;
    if (!is_first_) break_line();
    text_ += bracket;
    is_first_ = false;
  }

  void next() {
    if (!is_first_) text_ += indent_ ? "," : ", ";
    is_first_ = false;
    break_line();
  }

  void key(const char* name) {
    next();
    string(name);
    text_ += ": ";
  }

  void raw(const std::string& value) { text_ += value; }

  void string(std::string_view value) {
    text_ += '"';
    for (const char c : value) character(c);
    text_ += '"';
  }

  std::string take() { return std::move(text_); }

 private:
  void break_line() {
    if (indent_) text_ += "\n" + std::string(static_cast<size_t>(*indent_) * depth_, ' ');
  }

  void character(char c) {
    constexpr std::string_view kEscaped = "\"\\\b\f\n\r\t", kLetters = "\"\\bfnrt";
    const size_t known = kEscaped.find(c);
    if (known != std::string_view::npos) {
      text_ += '\\';
      text_ += kLetters[known];
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(c));
      text_ += escaped;
    } else {
      text_ += c;
    }
  }

  std::optional<int> indent_;
  size_t depth_ = 0;
  bool is_first_ = true;
  std::string text_;
};

void write(const Criterion& criterion, Writer& writer) {
  writer.open('{');
  writer.key("number");
  writer.raw(criterion.number ? std::to_string(*criterion.number) : "null");
  writer.key("text");
  writer.string(criterion.text);
  writer.key("kind");
  if (criterion.kind) {
    writer.string(kind_name(*criterion.kind));
  } else {
    writer.raw("null");
  }
  writer.close('}');
}

void write(const Issue& issue, Writer& writer) {
  writer.open('{');
  writer.key("code");
  writer.string(issue.code);
  writer.key("line");
  writer.raw(std::to_string(issue.line));
  writer.key("message");
  writer.string(issue.message);
  writer.close('}');
}

template <class Item>
void write_list(const char* name, const std::vector<Item>& items, Writer& writer) {
  writer.key(name);
  writer.open('[');
  for (const Item& item : items) {
    writer.next();
    write(item, writer);
  }
  writer.close(']');
}

}  // namespace

std::string Rubric::to_json(std::optional<int> indent) const {
  Writer writer(indent);
  writer.open('{');
  writer.key("schema_version");
  writer.raw(std::to_string(kSchemaVersion));
  write_list("criteria", criteria, writer);
  write_list("issues", issues, writer);
  writer.close('}');
  return writer.take();
}

}  // namespace rubricrm
