#include "rubric/answer.h"

#include <algorithm>

#include "rubric/answer_line.h"
#include "rubric/report.h"
#include "rubric/tables.h"

namespace rubricrm::rubric {
namespace {

using namespace patterns::answer;  // the names of answer.py

constexpr Text kOwnTurns[] = {U"assistant", U"ai", U"助手", U"response"};
constexpr size_t kLookedBack = 200;
constexpr size_t kQuotedLines = 3;
constexpr char kNeverClosed[] = "no closing tag follows: nothing in it is read as a rubric";

bool is_own_turn(const Match& match) {
  const std::u32string role = lower(match[Group::kRole]);
  return std::find(std::begin(kOwnTurns), std::end(kOwnTurns), Text(role)) != std::end(kOwnTurns);
}

}  // namespace

AnswerReader::AnswerReader(bool starts_in_thought) {
  if (starts_in_thought) thought_.emplace();
}

bool AnswerReader::is_all_answer(Text text, size_t number) {
  if (first_line_ == 0) first_line_ = number;
  if (thought_ || is_ended_ || kMayBeEvent.search(text) || kTurn.match(text)) return false;
  has_words_ = true;
  return true;
}

bool AnswerReader::is_open(size_t number) {
  if (thought_ || is_ended_) return false;
  if (first_line_ == 0) first_line_ = number;
  has_words_ = true;
  return true;
}

AnswerParts AnswerReader::read(Text text, size_t number, bool is_inside, bool has_criteria) {
  Line line(text, number, is_inside);
  if (!thought_ && !is_ended_) {
    if (const auto turn = kTurn.match(text)) meet_turn(line, *turn, has_criteria);
  }
  for (auto match = kEvent.search(text); match && !is_ended_; match = kEvent.search(text, match->end())) {
    if (match->start() >= line.position()) meet(line, *match);
  }
  read_rest(line);
  return std::move(line.found);
}

std::vector<Issue> AnswerReader::finish() {
  if (!thought_) return {};
  return {end_thought(kNeverClosed)};
}

// Meets a line such as `Human: write another`.
void AnswerReader::meet_turn(Line& line, const Match& match, bool has_criteria) {
  if (!has_words_ && is_own_turn(match)) {
    line.report("wrapper", "left out " + quote(match.text()));
    line.go_on(match.end());
  } else if (has_criteria && !line.is_inside) {
    is_ended_ = true;
  }
}

void AnswerReader::read_rest(Line& line) {
  const bool has_more = line.word() < line.text.size();
  if (is_ended_) {
    if (!has_more) return;
    line.report("trailing_text", "after the end of the answer: " + quote(slice(line.text, line.position())));
  } else if (thought_) {
    quote_thought(line, line.text.size());
  } else {
    has_words_ = has_words_ || has_more;
    line.take(line.text.size());
  }
}

void AnswerReader::meet(Line& line, const Match& match) {
  if (thought_) {
    meet_in_thought(line, match);
  } else if (match.has(Group::kOpening)) {
    meet_opening(line, match);
  } else if (match.has(Group::kClosing)) {
    meet_closing(line, match);
  } else {
    meet_control(line, match);
  }
}

void AnswerReader::meet_in_thought(Line& line, const Match& match) {
  if (match.has(Group::kOpening) || line.is_quoted(match)) return;
  if (match.has(Group::kClosing)) {
    quote_thought(line, match.end());
    line.found.issues.push_back(end_thought("it ends on line " + std::to_string(line.number)));
    line.go_on(match.end());
  } else if (!line.goes_on_after(match)) {
    line.found.issues.push_back(end_thought(kNeverClosed));
    end(line, match);
  }
}

void AnswerReader::meet_opening(Line& line, const Match& match) {
  if (line.is_quoted(match)) return;
  const bool is_blank = line.is_blank_before(match);
  bool is_word;
  if (is_blank) {
    is_word = line.is_start_inside() && !line.is_empty_after(match);
  } else if (line.is_ended_before(match)) {
    is_word = line.goes_on_after(match);
  } else {
    is_word = line.goes_on_after(match) || line.is_item();
  }
  if (is_word) return;
  has_words_ = has_words_ || !is_blank;
  line.take(match.start());
  thought_.emplace();
  thought_line_ = line.number;
  if (ends_with(match.text(), U"/>")) {
    thought_->emplace_back(match.text());
    line.found.issues.push_back(end_thought("it is empty"));
    line.go_on(match.end());
  }
}

void AnswerReader::meet_closing(Line& line, const Match& match) {
  if (line.is_closing_a_word(match)) return;
  line.found = {{}, {}, true};
  has_words_ = false;
  thought_.emplace();
  thought_->emplace_back(slice(line.text, line.position(), match.end()));
  thought_line_ = first_line_;
  const std::string where = std::to_string(line.number);
  line.found.issues.push_back(end_thought("nothing opened what ends on line " + where + ": all before it is thought"));
  line.go_on(match.end());
}

void AnswerReader::meet_control(Line& line, const Match& match) {
  if (is_control_a_word(line, match)) return;
  if (has_words_ || !line.is_blank_before(match)) {
    line.take(match.start());
    end(line, match);
    return;
  }
  line.report("wrapper", "left out " + quote(match.text()));
  line.go_on(match.end());
  if (kOtherRole.match(line.text, match.end())) {
    is_ended_ = true;
  } else if (const auto role = kOwnRole.match(line.text, match.end())) {
    line.go_on(role->end());
  }
}

bool AnswerReader::is_control_a_word(const Line& line, const Match& match) const {
  const Text token = match.text();
  const size_t start = match.start();
  const bool is_blank = line.is_blank_before(match);
  if (line.is_quoted(match) || (token == U"<s>" && (!is_blank || has_words_))) return true;
  if (token == U"</s>" && contains(slice(line.text, start - std::min(start, kLookedBack), start), U"<s>")) {
    return true;  // text that is struck out
  }
  if (is_blank) return line.is_start_inside() && line.goes_on_after(match);
  if (!is_space(line.text[start - 1]) || line.is_ended_before(match)) return false;
  return line.goes_on_after(match) || line.is_tag_after(match) || token[0] == U'[';
}

void AnswerReader::end(Line& line, const Match& match) {
  is_ended_ = true;
  line.report("wrapper", "the answer ends at " + quote(match.text()));
  line.go_on(match.end());
}

void AnswerReader::quote_thought(const Line& line, size_t end) {
  if (thought_line_ == 0) thought_line_ = line.number;
  if (thought_ && thought_->size() < kQuotedLines) {
    thought_->emplace_back(slice(slice(line.text, line.position(), end), 0, 2 * kQuotedCharacters));
  }
}

Issue AnswerReader::end_thought(const std::string& how_it_ends) {
  std::vector<Text> lines(thought_->begin(), thought_->end());
  const std::string quoted = quote(join(lines));
  const size_t number = std::max<size_t>(1, thought_line_);
  thought_.reset();
  thought_line_ = 0;
  return {"think_block", number, "left out " + quoted + "; " + how_it_ends};
}

}  // namespace rubricrm::rubric
