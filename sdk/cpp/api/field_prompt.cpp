#include "api/field_prompt.h"

#include <algorithm>

#include "error.h"
#include "runtime/prompt.h"

namespace rubricrm {
namespace {

struct Placeholder {
  size_t start;
  std::string field, text;
};

std::vector<Placeholder> placeholders_of(const std::string& name, const PromptFacts& facts) {
  std::vector<Placeholder> found;
  for (const auto& [field, placeholder] : facts.fields) {
    const size_t start = facts.template_text.find(placeholder);
    if (placeholder.empty() || start == std::string::npos) {
      throw Error(Code::BUNDLE_INVALID, "prompts." + name + ": the template does not hold the placeholder of " + field +
                                            ". Export the bundle again.");
    }
    found.push_back({start, field, placeholder});
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.start < b.start; });
  return found;
}

void append(std::vector<Segment>& segments, std::vector<Segment> more) {
  segments.insert(segments.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

}  // namespace

FieldPrompt::FieldPrompt(std::string name, const PromptFacts& facts, const ChatFacts& chat, const Tokenizer& tokenizer)
    : name_(std::move(name)), tokenizer_(tokenizer) {
  append(before_, tokenizer.split_control(chat.opening));
  append(before_, tokenizer.split_control(chat.user.before));
  std::vector<Segment>* last = &before_;
  std::string* last_text = &text_before_;
  size_t end = 0;
  const std::vector<Placeholder> placeholders = placeholders_of(name_, facts);
  places_.reserve(placeholders.size());
  const auto take = [&](size_t until) {
    *last_text = facts.template_text.substr(end, until - end);
    append(*last, tokenizer.split_control(*last_text));
  };
  for (const Placeholder& placeholder : placeholders) {
    take(placeholder.start);
    end = placeholder.start + placeholder.text.size();
    places_.push_back({placeholder.field, {}, {}});
    last = &places_.back().after;
    last_text = &places_.back().text_after;
  }
  take(facts.template_text.size());
  append(*last, tokenizer.split_control(chat.user.after));
  append(*last, tokenizer.split_control(chat.generation));
}

TokenIds FieldPrompt::encode(const FieldValues& values) const {
  check_fields(values);
  std::vector<Segment> segments = before_;
  for (const Place& place : places_) {
    const std::string& value = value_of(values, place.field);
    check_text(value, place.field);
    segments.emplace_back(value);
    append(segments, place.after);
  }
  return tokenizer_.encode_segments(segments);
}

std::string FieldPrompt::render(const FieldValues& values) const {
  check_fields(values);
  std::string text = text_before_;
  for (const Place& place : places_) {
    const std::string& value = value_of(values, place.field);
    check_text(value, place.field);
    text += value + place.text_after;
  }
  return text;
}

const std::string& FieldPrompt::value_of(const FieldValues& values, const std::string& field) const {
  return std::find_if(values.begin(), values.end(), [&](const auto& pair) { return pair.first == field; })->second;
}

// Each field stands there once, and nothing else.
void FieldPrompt::check_fields(const FieldValues& values) const {
  std::vector<std::string> given, wanted;
  for (const auto& [field, value] : values) given.push_back(field);
  for (const Place& place : places_) wanted.push_back(place.field);
  std::sort(given.begin(), given.end());
  std::sort(wanted.begin(), wanted.end());
  if (given == wanted) return;
  const auto joined = [](const std::vector<std::string>& names) {
    std::string text;
    for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
    return text.empty() ? std::string("none") : text;
  };
  throw Error(Code::OPTION_INVALID, "the fields of the prompt " + name_ + ": got " + joined(given) + ", expected " +
                                        joined(wanted) + ", each once.");
}

}  // namespace rubricrm
