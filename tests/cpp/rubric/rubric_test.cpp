// A rubric's canonical text, JSON, weights and form, in what Python cannot be asked: errors, bytes, pieces, cost.
#include "rubric/rubric.h"

#include <chrono>
#include <functional>

#include "error.h"
#include "expect.h"
#include "rubric/form.h"
#include "rubric/rubric_reader.h"
#include "rubric/utf8.h"

using namespace rubricrm;

namespace {

const char kLine[] = "1. The response must rhyme. [Hard Rule]\n";

Criterion criterion(const char* text, std::optional<Kind> kind) { return {1, text, kind, {}}; }

// The message of the error of a code that a call ends with; empty where it ends with another, or none.
std::string message_of(Code code, const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    if (error.code() == code) return error.what();
  }
  return "";
}

void renders_and_refuses() {
  const Rubric rubric = {
      {criterion("The response must rhyme.", Kind::kHardRule), criterion("The response is short.", Kind::kPrinciple)},
      {}};
  EXPECT(rubric.render() == std::string(kLine) + "2. The response is short. [Principle]\n", "got other text");
  const struct {
    Criterion criterion;
    const char* reason;
  } refused[] = {
      {criterion("The response must rhyme.", std::nullopt), "criterion 2 has no kind: 'The response must rhyme.'. Set"},
      {criterion(" ", Kind::kPrinciple), "criterion 2 has no text. Remove it."},
      {criterion("Rhyme.", Kind::kPrinciple), "must start with \"The response \", got 'Rhyme.'. Reword it."},
      {criterion("The response\nmust rhyme.", Kind::kPrinciple), "spans lines: 'The response\\nmust rhyme.'. Join"},
      {criterion("The response shows </thin\u212a>.", Kind::kPrinciple), "holds '</think>', which validators cut out"},
      {criterion("The response A. [Hard Rule] 3. The response B.", Kind::kPrinciple),
       "would not be read back as it is"},
  };
  for (const auto& [bad, reason] : refused) {
    const Rubric with_bad = {{rubric.criteria[0], bad}, {}};
    const std::string message = message_of(Code::RUBRIC_MALFORMED, [&with_bad] { with_bad.render(); });
    EXPECT(message.find(reason) != std::string::npos, "expected %s, got %s", reason, message.c_str());
  }
  EXPECT(message_of(Code::RUBRIC_MALFORMED, [] { Rubric().render(); }) != "", "an empty rubric has no text");
}

void weighs() {
  const Rubric rubric = {{criterion("a", Kind::kHardRule), criterion("b", Kind::kPrinciple), criterion("c", {})}, {}};
  EXPECT((rubric.weights() == std::vector<double>{3, 1, 1}), "default weights");
  EXPECT((rubric.weights({1, 0}) == std::vector<double>{1, 0, 0}), "given weights");
  const auto refusal = [&rubric](double hard_rule, double principle) {
    return message_of(Code::OPTION_INVALID, [&] { rubric.weights({hard_rule, principle}); });
  };
  EXPECT(refusal(-1, 1) == "weight hard_rule must be a finite number >= 0, got -1.0.", "%s", refusal(-1, 1).c_str());
  EXPECT(refusal(1, 1e308 * 10) != "" && refusal(0, 0) != "", "infinite or no weight");
}

void is_strict() {
  EXPECT(parse(kLine, {false, false, true}).issues.empty(), "a line in the form");
  const std::string message = message_of(Code::RUBRIC_MALFORMED, [] { parse("2. Rhyme \t.", {false, false, true}); });
  EXPECT(message ==
             "line 1 is '2. Rhyme \\t.', expected \"1. The response ... [Hard Rule]\" or \"... [Principle]\". "
             "Generate the rubric again.",
         "got %s", message.c_str());
  EXPECT(message_of(Code::OPTION_INVALID, [] { form_gbnf(65); }) == "max_items must be from 1 to 64, got 65.",
         "65 items");
  EXPECT(message_of(Code::OPTION_INVALID, [] { form_regex(0); }) != "", "0 items");
}

void reads_any_bytes() {
  using rubric::from_utf8;
  EXPECT(from_utf8("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80") == U"aé€😀", "UTF-8");
  // The examples of the Unicode standard, section 3.9, on what to replace.
  EXPECT(from_utf8("a\xf1\x80\x80\xe1\x80\xc2"
                   "b\x80"
                   "c\x80\xbf"
                   "d") == U"a\ufffd\ufffd\ufffdb\ufffdc\ufffd\ufffdd",
         "longest starts of a character");
  EXPECT(from_utf8("\xed\xa0\x80\xc0\xaf\xf4\x90\x80\x80") == std::u32string(9, U'\ufffd'), "surrogates, long forms");
  const Rubric found = parse("1. The response must rhyme \xff. [Hard Rule]\n2. The response is \xe2\x82");
  EXPECT(found.criteria.size() == 2 && found.criteria[1].text == "The response is \ufffd", "replaced");
  size_t undecodable = 0;
  for (const Issue& issue : found.issues) undecodable += issue.code == "undecodable";
  EXPECT(undecodable == 2, "got %zu lines with bytes of no character", undecodable);
}

void reads_pieces_cut_anywhere() {
  const std::string text =
      "1. Thé response\r\n2. The response must say “ja”. [Principle]\r\r\n<think>\xf0\x9f\x98</think>";
  const Rubric whole = parse(text);
  for (size_t length = 1; length <= text.size(); ++length) {
    RubricReader reader;
    std::vector<Criterion> given;
    for (size_t start = 0; start < text.size(); start += length) {
      for (Criterion& found : reader.feed(std::string_view(text).substr(start, length))) given.push_back(found);
    }
    RubricReader::Last last = reader.finish();
    given.insert(given.end(), last.criteria.begin(), last.criteria.end());
    EXPECT(last.rubric.to_json() == whole.to_json(), "pieces of %zu bytes: %s", length, last.rubric.to_json().c_str());
    EXPECT(given == whole.criteria && reader.num_taken_back() == 0, "pieces of %zu bytes", length);
  }
}

void writes_json() {
  const Rubric rubric = {{criterion("\"\\\b\f\n\r\t\x01\x7f/é\u2028", std::nullopt)}, {}};
  EXPECT(rubric.to_json() ==
             "{\"schema_version\": 1, \"criteria\": [{\"number\": 1, \"text\": "
             "\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\x7f/é\u2028\", \"kind\": null}], \"issues\": []}",
         "got %s", rubric.to_json().c_str());
}

// A text of so many bytes is read in so many seconds. Only a test's own time limit decides: what is not linear hangs
// here.
void reads_hostile_texts() {
  for (const char* unit : {"[",
                           "7",
                           "\n",
                           "\r",
                           "*",
                           "(",
                           "[Hard Rule]",
                           "[Hard\n",
                           "1. a [Hard Rule] ",
                           "x. 1. The response ",
                           "</think> a",
                           "a <think> b ",
                           "\u200b",
                           "a\u200db",
                           "\x1b]",
                           "**a\n",
                           "Hard Rules (",
                           "&#1",
                           "\\n1. ",
                           "1. The response must be x. [Hard Rule]\n",
                           "**[Hard Rule]**",
                           "<a b>\n",
                           "i) ",
                           "A. Rhyme\n",
                           "1. The response x",
                           "a. ",
                           "<|",
                           "[[[[Hard Rule",
                           "A response. ",
                           "\ufffd"}) {
    std::string text;
    while (text.size() < 1000000) text += unit;
    const auto start = std::chrono::steady_clock::now();
    const Rubric rubric = parse(text);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    EXPECT(!rubric.issues.empty(), "%s is no rubric", unit);
    std::printf("%5.2f s for a megabyte of %.20s\n", taken.count(), rubric.issues[0].message.c_str());
  }
}

}  // namespace

int main() {
  renders_and_refuses();
  weighs();
  is_strict();
  reads_any_bytes();
  reads_pieces_cut_anywhere();
  writes_json();
  reads_hostile_texts();
  return failures == 0 ? 0 : 1;
}
