#include "generation/grammar_check.h"

#include <algorithm>
#include <set>

#include "error.h"

namespace rubricrm {
namespace {

constexpr int64_t kMostStates = (1 << 15) - 2;  // steps between so many fit into 16 bits

template <class T>
int64_t largest_of(const std::vector<T>& values) {
  return values.empty() ? 0 : *std::max_element(values.begin(), values.end());
}

std::string written(const std::set<int32_t>& ids) {
  std::string list;
  for (int32_t id : ids) list += (list.empty() ? "" : ", ") + std::to_string(id);
  return "[" + list + "]";
}

class Check {
 public:
  Check(const GrammarTables& tables, const std::string& where)
      : tables_(tables), where_(where), num_states_(static_cast<int64_t>(tables.row.size())) {}

  void sizes(int64_t num_tokens, const TokenIds& stop_ids) const {
    const int64_t found_tokens = static_cast<int64_t>(tables_.token_class.size());
    require(found_tokens == num_tokens,
            "is for " + std::to_string(found_tokens) + " tokens, the tokenizer has " + std::to_string(num_tokens));
    const size_t num_shortest = tables_.shortest.size(), num_forced = tables_.forced.size();
    const bool are_equal = num_shortest == tables_.row.size() && num_forced == tables_.row.size();
    require(1 < num_states_ && num_states_ <= kMostStates && are_equal,
            "has " + std::to_string(num_states_) + " rows, " + std::to_string(num_shortest) + " shortest ways and " +
                std::to_string(num_forced) + " forced tokens");
    const bool are_named_here = tables_.num_classes >= 2 && largest_of(tables_.token_class) < tables_.num_classes &&
                                largest_of(tables_.row) < tables_.num_rows &&
                                static_cast<int64_t>(tables_.steps.size()) == tables_.num_rows * tables_.num_classes;
    require(are_named_here, "names a class or a row that it does not hold");
    std::set<int32_t> ends;
    for (int64_t n = 0; n < num_tokens; ++n) {
      if (tables_.token_class[n] == kEndsClass) ends.insert(static_cast<int32_t>(n));
    }
    const std::set<int32_t> expected(stop_ids.begin(), stop_ids.end());
    require(ends == expected, "ends a text at other tokens than the stop ids " + written(expected));
  }

  // Of tables of sound sizes.
  void ways() const {
    bool ends_there = true, is_inside = true;
    for (int32_t state = 0; state < num_states_; ++state) {
      ends_there &= following_state(tables_, state, kNowhereClass) == Grammar::kRefused;
      for (int32_t n = 0; n < tables_.num_classes; ++n) {
        const int32_t following = following_state(tables_, state, n);
        ends_there &= state != Grammar::kEnd || following == Grammar::kRefused;
        is_inside &= Grammar::kRefused <= following && following < num_states_;
      }
    }
    require(ends_there, "leads on where nothing can follow");
    require(is_inside, "leads to a state that it does not hold");
    // Only the true distances are each one more than the least of those that follow; some always follow.
    bool are_true = tables_.shortest[Grammar::kEnd] == 0;
    for (int32_t state = 1; state < num_states_; ++state) {
      const int64_t least = least_after(state);
      are_true &= least < kMostStates && least + 1 == tables_.shortest[state];
    }
    require(are_true, "states shortest ways that are others");
  }

  void forced() const {
    bool exist = true, can_follow = true;
    for (int32_t state = 0; state < num_states_; ++state) {
      const int32_t token = tables_.forced[state];
      if (token == kNothingForced) continue;
      exist &= 0 <= token && token < static_cast<int64_t>(tables_.token_class.size());
      can_follow &= exist && following_state(tables_, state, tables_.token_class[token]) > Grammar::kEnd;
    }
    require(exist, "forces a token that does not exist");
    require(can_follow, "forces a token that cannot follow");
  }

 private:
  int64_t least_after(int32_t state) const {
    int64_t least = kMostStates;
    for (int32_t n = 0; n < tables_.num_classes; ++n) {
      const int32_t following = following_state(tables_, state, n);
      if (following != Grammar::kRefused) least = std::min<int64_t>(least, tables_.shortest[following]);
    }
    return least;
  }

  void require(bool condition, const std::string& fault) const {
    if (!condition) throw Error(Code::BUNDLE_INVALID, where_ + ": " + fault + ". Copy or export the bundle again.");
  }

  const GrammarTables& tables_;
  const std::string& where_;
  const int64_t num_states_;
};

}  // namespace

void check_grammar(const GrammarTables& tables, int64_t num_tokens, const TokenIds& stop_ids,
                   const std::string& where) {
  const Check check(tables, where);
  check.sizes(num_tokens, stop_ids);
  check.ways();
  check.forced();
}

}  // namespace rubricrm
