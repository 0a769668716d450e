// What drafting may still cost a sequence, so that it never makes one much slower.
#pragma once

#include <cstdint>

namespace rubricrm {

// An account in tokens of plain decoding: a row is paid for, an accepted token is earned. It begins with one token and
// gains 2 % of each token that is written. So a text of n tokens takes at most n + 1 + 0.02 n of plain decoding's
// steps, whatever is drafted and however wrong the expectations were, if steps cost what was measured.
class DraftCredit {
 public:
  double tokens() const { return tokens_; }  // the balance

  // Accounts for one step: what its drafted rows cost, and how many of them came true.
  void settle(double price, int64_t accepted) {
    const double earned = static_cast<double>(accepted);
    tokens_ += earned - price + 0.02 * (1.0 + earned);
  }

 private:
  double tokens_ = 1.0;
};

}  // namespace rubricrm
