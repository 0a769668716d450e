#include "rubric/rubric_json.h"

#include "text/json_text.h"

namespace rubricrm {
namespace {

using Json = nlohmann::ordered_json;

// Of the values that `to_json` writes. It changes where a reader of the old form would read the new one wrongly.
constexpr int kSchemaVersion = 1;

Json json_of(const Criterion& criterion) {
  return {{"number", criterion.number ? Json(*criterion.number) : Json(nullptr)},
          {"text", criterion.text},
          {"kind", criterion.kind ? Json(kind_name(*criterion.kind)) : Json(nullptr)}};
}

Json json_of(const Issue& issue) {
  return {{"code", issue.code}, {"line", issue.line}, {"message", issue.message}};
}

template <class Item>
Json list_of(const std::vector<Item>& items) {
  Json list = Json::array();
  for (const Item& item : items) list.push_back(json_of(item));
  return list;
}

}  // namespace

Json json_of(const Rubric& rubric) {
  return {{"schema_version", kSchemaVersion},
          {"criteria", list_of(rubric.criteria)},
          {"issues", list_of(rubric.issues)}};
}

std::string Rubric::to_json(std::optional<int> indent) const { return json_text(json_of(*this), indent); }

}  // namespace rubricrm
