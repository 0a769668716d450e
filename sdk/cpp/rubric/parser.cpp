#include "rubric/parser.h"

#include <algorithm>
#include <utility>

#include "rubric/form.h"
#include "rubric/joint.h"
#include "rubric/repetition.h"
#include "rubric/tables.h"
#include "rubric/wrapper.h"

namespace rubricrm::rubric {
namespace {

constexpr size_t kTabWidth = 4;

// The line with spaces for its break, so that offsets stay.
std::u32string without_break(Text line) {
  std::u32string body(line);
  for (size_t end = line.size(); end > 0 && is_line_break(line[end - 1]); --end) body[end - 1] = U' ';
  return body;
}

// How many columns white space takes at the start of a line.
size_t columns_of(Text space) {
  size_t columns = 0, column = 0;
  for (const char32_t character : space) {
    const size_t width = character == U'\t' ? kTabWidth - column % kTabWidth : 1;
    columns += width;
    column = character == U'\n' || character == U'\r' ? 0 : column + width;
  }
  return columns;
}

}  // namespace

RubricParser::RubricParser(bool starts_in_thought) : answer_(starts_in_thought) {}

void RubricParser::read_line(Text raw) {
  ++num_lines_;
  const auto line = std::make_shared<const VisibleLine>(without_break(raw), offset_, num_lines_);
  offset_ += raw.size();
  if (patterns::parser::kUndecodable.search(raw)) {
    undecodable_.add("undecodable", num_lines_, "bytes of no character in " + quote(line->text()));
  }
  if (!held_.empty() && !is_tag_split(held_.back()->text(), line->text())) read_held();
  if (is_blank(line->text())) {
    is_after_blank_ = true;
    return;
  }
  held_.push_back(line);
  if (!has_open_bracket(line->text())) read_held();
}

void RubricParser::finish(bool truncated) {
  read_held();
  Report& report = reading_->report;
  report.add(answer_.finish());
  const auto open_line = reading_->items.open_line();
  reading_->items.finish(truncated);
  if (truncated && !report.has("truncated")) {
    report.add("truncated", open_line.value_or(std::max<size_t>(1, num_lines_)),
               "the text was cut here: this item is unfinished, or more may be missing");
  }
  if (criteria().empty()) {
    report.add("no_criteria", 1, "found no criterion, expected lines like `1. The response ... [Hard Rule]`");
  }
  report.add(undecodable_.issues());
  if (auto repetition = find_repetition(criteria())) report.add({*repetition});
  issues_ = report.in_order();
}

void RubricParser::read_held() {
  if (held_.empty()) return;
  const Line line = held_.size() == 1 ? held_[0] : VisibleLine::joined(held_);
  held_.clear();
  if (!read_in_form(line)) read_other(line);
  is_after_blank_ = false;
}

// Reads the next item where the line is one in the form: then no word of it means anything else.
bool RubricParser::read_in_form(const Line& line) {
  const Text text = line->text();
  const auto item = read_form_line(strip_end(text));
  if (!item || item->number != reading_->items.next_number() || !answer_.is_open(line->number())) return false;
  Mark mark;
  mark.style = Style::kDigits;
  mark.number = item->number;
  mark.end = item->start;
  mark.is_exact = true;
  const Tag tag = {item->tag_start, item->tag_end, item->kind, slice(text, item->tag_start, item->tag_end), false};
  const Text body = slice(text, 0, item->tag_end);
  reading_->items.read(std::make_shared<const Fragment>(line, 0, body, 0, mark, std::vector<Tag>{tag}),
                       is_after_blank_);
  return true;
}

void RubricParser::read_other(const Line& line) {
  const Text text = line->text();
  if (answer_.is_all_answer(text, line->number())) {
    read_part(line, 0, text.size());
    return;
  }
  const AnswerParts answer = answer_.read(text, line->number(), reading_->items.is_inside(), !criteria().empty());
  if (answer.takes_back) {
    ++num_restarts_;
    reading_ = std::make_unique<Reading>();
  }
  reading_->report.add(answer.issues);
  for (const auto& [start, end] : answer.parts) read_part(line, start, end);
}

void RubricParser::read_part(const Line& line, size_t start, size_t end) {
  const Text text = line->text(), part = strip_end(slice(text, start, end));
  end = start + part.size();
  const size_t begin = end - strip_start(part).size();
  const size_t indent = start == 0 ? columns_of(slice(text, 0, begin)) : 0;
  const Unwrapped inside = strip_wrappers(text, begin, end);
  for (const Text wrapper : inside.wrappers) {
    reading_->report.add(wrapper_code(wrapper), line->number(), "left out " + quote(wrapper));
  }
  if (inside.start < inside.end) read_pieces(line, inside.start, inside.end, indent);
}

void RubricParser::read_pieces(const Line& line, size_t begin, size_t end, size_t indent) {
  Reading& reading = *reading_;
  const Text text = slice(line->text(), begin, end);
  const std::vector<Piece> pieces = split_items(text, reading.items.number_so_far());
  for (const Piece& piece : pieces) {
    if (piece.text.empty()) continue;
    if (piece.tags.empty() && is_wrapper_alone(piece.text)) {
      reading.report.add("wrapper", line->number(), "left out " + quote(piece.text));
      continue;
    }
    const size_t start = begin + piece.start;
    reading.items.read(std::make_shared<const Fragment>(line, start, piece.text, indent, piece.mark, piece.tags),
                       is_after_blank_);
    indent = 0;
  }
  if (pieces.size() > 1) {
    reading.report.add("joined_line", line->number(),
                       std::to_string(pieces.size()) + " items on one line: " + quote(text));
  } else if (may_be_joined(pieces[0])) {
    reading.report.add("joined_line", line->number(), "read as one item: " + quote(text));
  }
}

}  // namespace rubricrm::rubric
