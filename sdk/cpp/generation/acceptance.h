// How often the drafts of one sequence came true, by their source and by how sure it was.
#pragma once

#include <array>

namespace rubricrm {

// Where a drafted token comes from.
enum class DraftSource {
  GRAMMAR,  // of the only text that the answer's form allows here
  NUMBER,   // the next item's, counted
  PHRASES,  // finished rubrics
  TEXT,     // this prompt and what was written after it
};
constexpr int kNumDraftSources = 4;

// The class of a token that a source names with a probability of 0 to 1.
int grade(DraftSource source, double probability);

// Corrects what a source says about its drafts by what became of them. A class is a source and a tenth of probability.
// Its share of accepted tokens begins at what the source says; the last 30 tokens or so weigh most.
class Acceptance {
 public:
  Acceptance();

  // How likely a drafted token of a class is to come true, if those before it do.
  double chance(int of_grade) const { return classes_[of_grade].chance; }
  // Notes what became of a drafted token. One after a refused token was never judged: it is not noted.
  void record(int of_grade, bool accepted);

 private:
  static constexpr int kClasses = 10;  // of probability, per source
  friend int grade(DraftSource source, double probability);

  struct Class {
    double accepted = 0.0, drafted = 0.0, chance, prior;
  };
  std::array<Class, kNumDraftSources * kClasses> classes_;
};

}  // namespace rubricrm
