#include "generation/acceptance.h"

#include <algorithm>

namespace rubricrm {
namespace {

constexpr double kPriorWeight = 6.0;  // tokens that a source's own statement counts for
constexpr double kDecay = 0.97;       // per drafted token of the same source and class
constexpr double kCertain = 0.99;
constexpr double kCounted = 0.95;

}  // namespace

int grade(DraftSource source, double probability) {
  const int of_probability = static_cast<int>(probability * Acceptance::kClasses);
  return static_cast<int>(source) * Acceptance::kClasses + std::min(of_probability, Acceptance::kClasses - 1);
}

Acceptance::Acceptance() {
  for (size_t n = 0; n < classes_.size(); ++n) {
    classes_[n].chance = (static_cast<double>(n % kClasses) + 0.5) / kClasses;
  }
  classes_[grade(DraftSource::GRAMMAR, 1.0)].chance = kCertain;
  classes_[grade(DraftSource::NUMBER, 1.0)].chance = kCounted;
  for (Class& each : classes_) each.prior = each.chance;
}

void Acceptance::record(int of_grade, bool accepted) {
  Class& noted = classes_[of_grade];
  noted.accepted = noted.accepted * kDecay + (accepted ? 1.0 : 0.0);
  noted.drafted = noted.drafted * kDecay + 1.0;
  noted.chance = (noted.accepted + noted.prior * kPriorWeight) / (noted.drafted + kPriorWeight);
}

}  // namespace rubricrm
