// Any bytes are read as a rubric, whole and in pieces alike, and what renders reads back. For libFuzzer: see
// tests.cmake of tests/cpp/rubric. The first byte says how to read; the rest is the text.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "error.h"
#include "generation/rubric_stream.h"
#include "nlohmann/json.hpp"
#include "rubric/rubric.h"

using namespace rubricrm;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

void check_spans(const Rubric& rubric, size_t num_bytes) {
  size_t end = 0;
  for (const Criterion& criterion : rubric.criteria) {
    const Span& span = criterion.span;
    require(end <= span.start && span.start < span.end && span.end <= num_bytes && span.line > 0 && span.column > 0);
    end = span.end;
  }
}

void check_stream(std::string_view text, size_t length, const ParseOptions& options, const Rubric& whole) {
  RubricStream stream(options.starts_in_thought);
  std::vector<Criterion> given;
  const auto take = [&given](const StreamEvent& event) {
    if (event.takes_back) given.clear();
    given.insert(given.end(), event.criteria.begin(), event.criteria.end());
  };
  for (size_t start = 0; start < text.size(); start += length) take(stream.feed(text.substr(start, length)));
  take(stream.finish(options.truncated));
  require(stream.rubric().to_json() == whole.to_json() && given == whole.criteria);
}

void check_render(const Rubric& rubric) {
  try {
    const Rubric again = parse(rubric.render());
    require(again.criteria.size() == rubric.criteria.size());
  } catch (const Error& error) {
    require(error.code() == Code::RUBRIC_MALFORMED);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const ParseOptions options = {(data[0] & 1) != 0, (data[0] & 2) != 0, false};
  const Rubric rubric = parse(text, options);
  check_spans(rubric, text.size());
  const auto json = nlohmann::json::parse(rubric.to_json());
  require(json.at("criteria").size() == rubric.criteria.size() && json.at("issues").size() == rubric.issues.size());
  check_stream(text, 1 + data[0] / 4, options, rubric);
  check_render(rubric);
  try {
    require(parse(text, {false, false, true}).criteria.size() > 0);
  } catch (const Error& error) {
    require(error.code() == Code::RUBRIC_MALFORMED);
  }
  return 0;
}
