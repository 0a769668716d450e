"""Says how often the demo judge is right, by kind of rule, on requests and words that training never saw.

python evaluate_judge.py BUNDLE --number 50 --json RESULTS.json

Each synthetic case has one rule of a kind that one of its two answers meets, `two rules` has two, and in `equal` both
answers meet their rule or both miss it. `long` is about a word in answers that are several times longer than those of
the training. Requests are the demo model's held-out ones; nouns and adjectives are those held out of training, or made
up. The cases of `held_out_cases.jsonl` were written by hand, before the first training.
"""

import argparse
import json
import platform
import random
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "demo"))

import rubricrm  # noqa: E402 (the demo model's scripts are no package)
import words  # noqa: E402
from answers import answer  # noqa: E402
from corpus import Pair  # noqa: E402
from judge_corpus import HELD_OUT_WORDS, KINDS, Case, clash, one_case, rule_text  # noqa: E402
from phrases import Filler  # noqa: E402
from rubricrm import JudgeModel, Jury  # noqa: E402
from rubricrm.judge.verdict import Verdict, Vote  # noqa: E402
from rules import Rule  # noqa: E402
from templates import lines  # noqa: E402

SEED = 999
EQUAL, TWO_RULES, LONG, BY_HAND = "equal", "two rules", "long", "by hand"
LONG_WORDS = (40, 80)
NAMES = {
    "word": "holds a word",
    "no_word": "does not hold a word",
    "begin": "begins with a text",
    "end": "ends with a text",
    "mark": "ends with a mark",
    "words": "number of words",
    "sentences": "number of sentences",
    "lines": "number of lines",
    "items": "number of list items",
    EQUAL: "one rule that both answers meet, or neither",
    TWO_RULES: "two rules",
    LONG: "holds a word, answers of 40 to 80 words",
    BY_HAND: "written by hand, of all kinds",
}
FORM = re.compile(
    r"Identified Gatekeeper Criterion: (Criterion \d+|none)\n\n"
    r"\*\*Response A:\*\*\n(?P<a>(?:- Criterion \d+: .+\n)+)\n"
    r"\*\*Response B:\*\*\n(?P<b>(?:- Criterion \d+: .+\n)+)\n"
    r"Response A meets \d+, Response B meets \d+\.\nWinner: Response [AB]"
)
FINDING = re.compile(r"- Criterion (\d+): (?:.*: (?:not )?met|not checked)\.")


@dataclass
class Score:
    """Counts of one kind of cases.

    Attributes:
        cases: Cases, each judged in both orders.
        votes_right: Single judgments that name the better answer; of equal answers, Response A.
        orders_agree: Cases where both orders prefer the same answer.
        verdicts_right: Cases where the jury does; of equal answers, where it says tie.
        ties: Cases where the orders disagree.
        no_verdict: Cases without a verdict.
        forms_whole: Judgments that have every line of the form, in its order.
        identical: Judgments that are to the letter what they should be.
    """

    cases: int = 0
    votes_right: int = 0
    orders_agree: int = 0
    verdicts_right: int = 0
    ties: int = 0
    no_verdict: int = 0
    forms_whole: int = 0
    identical: int = 0


def synthetic(number: int) -> Iterator[tuple[str, Case]]:
    """Cases of each kind."""
    requests = [line for line in lines(HERE.parent / "demo/held_out.txt") if line.isascii()]
    for kind in (*KINDS, TWO_RULES, EQUAL, LONG):
        rng = random.Random(f"{SEED} {kind}")
        found = 0
        while found < number:
            case = drawn(rng, kind, rng.choice(requests))
            met_a, met_b = case.num_met()
            if (met_a == met_b) == (kind == EQUAL):
                found += 1
                yield kind, case


def drawn(rng: random.Random, kind: str, request: str) -> Case:
    """A case of a kind, maybe without a winner."""
    if kind == LONG:
        case = drawn(rng, "word", request)
        return replace(case, response_a=longer(rng, case.response_a), response_b=longer(rng, case.response_b))
    kinds = [kind]
    if kind in (EQUAL, TWO_RULES):
        kinds = rng.sample(KINDS, 2 if kind == TWO_RULES else 1)
        if len(kinds) == 2 and clash(*kinds):
            return drawn(rng, kind, request)
    return one_case(rng, [rule_text(Filler(rng), one) for one in kinds], Pair(request, "", ""))


def longer(rng: random.Random, text: str) -> str:
    """An answer between sentences."""
    size = rng.randint(*LONG_WORDS)
    while len(text.split()) < size:
        sentences = answer(rng, [Rule("sentences", relation="exactly", number=2)], [True])
        text = f"{sentences} {text}" if rng.random() < 0.5 else f"{text} {sentences}"
    return text


def by_hand() -> Iterator[tuple[str, Case]]:
    """The cases that were written by hand."""
    for line in lines(HERE / "held_out_cases.jsonl"):
        yield BY_HAND, Case(**json.loads(line))


def keep_held_out_words() -> None:
    """Leaves only words in the lists that training never saw."""
    for words_ in (words.NOUNS, words.ADJECTIVES):
        words_[:] = [word for word in words_ if word in HELD_OUT_WORDS]


def is_whole(text: str, num_criteria: int) -> bool:
    """Whether a judgment has the whole form."""
    match = FORM.fullmatch(text)
    if match is None:
        return False
    numbers = [str(number) for number in range(1, num_criteria + 1)]
    found = [[FINDING.fullmatch(line) for line in match[name].splitlines()] for name in ("a", "b")]
    return all([hit[1] for hit in hits if hit] == numbers and all(hits) for hits in found)


def count(score: Score, case: Case, votes: tuple[Vote, ...], winner: str | None) -> None:
    """Adds a case that was judged."""
    met_a, met_b = case.num_met()
    better = "tie" if met_a == met_b else "A" if met_a > met_b else "B"
    score.cases += 1
    score.verdicts_right += winner == better
    score.ties += winner == "tie"
    score.no_verdict += winner is None
    score.orders_agree += len({vote.winner for vote in votes}) == 1 and votes[0].winner is not None
    for vote in votes:
        shown = case if vote.order == "given" else case.swapped()
        # By the caller's names, the answer that was shown as A is B in the swapped order.
        first = "A" if vote.order == "given" else "B"
        score.votes_right += vote.winner == (first if better == "tie" else better)
        score.forms_whole += is_whole(vote.text or "", len(case.criteria()))
        score.identical += vote.text == shown.judgment()


def evaluate(judge: JudgeModel, cases: list[tuple[str, Case]], shown: int) -> dict[str, Score]:
    """Has a jury compare the answers of each case."""
    jury = Jury(judge)

    def compare(case: Case) -> tuple[tuple[Vote, ...], str | None]:
        outcome = jury.compare(case.instruction, case.response_a, case.response_b, rubric=case.rubric)
        return outcome.votes, outcome.winner if isinstance(outcome, Verdict) else None

    scores: dict[str, Score] = {}
    with ThreadPoolExecutor(max(1, judge.max_concurrency // 2)) as pool:
        outcomes = pool.map(compare, [case for _, case in cases])
        for (kind, case), (votes, winner) in zip(cases, outcomes, strict=True):
            count(scores.setdefault(kind, Score()), case, votes, winner)
            if shown and votes[0].text != case.judgment():
                shown -= 1
                print(f"{case}\n{votes[0].text}\n{votes[0].issues}\n", file=sys.stderr)
    return scores


def table(document: dict[str, Any]) -> str:
    """The results as a table in Markdown."""
    columns = ["kind of rule", "cases", "votes right", "orders agree", "verdict right", "tie", "no verdict"]
    columns += ["form whole", "to the letter"]
    rows = [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    for kind, score in document["kinds"].items():
        of_cases = (share(score[name], score["cases"]) for name in ("orders_agree", "verdicts_right", "ties"))
        cells = [NAMES.get(kind, kind), str(score["cases"]), share(score["votes_right"], 2 * score["cases"]), *of_cases]
        of_votes = (share(score[name], 2 * score["cases"]) for name in ("forms_whole", "identical"))
        cells += [str(score["no_verdict"]), *of_votes]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def share(part: int, whole: int) -> str:
    """A share in percent."""
    return f"{100 * part / whole:.0f} %"


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--number", type=int, default=50, help="synthetic cases of each kind")
    parser.add_argument("--json", type=Path, help="file for the counts")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print N cases that went wrong")
    args = parser.parse_args()
    keep_held_out_words()
    with JudgeModel.open(args.bundle) as judge:
        scores = evaluate(judge, [*synthetic(args.number), *by_hand()], args.show)
        weights = judge.bundle.manifest.files["model.onnx.data"].sha256
    document = {
        "command": f"python evaluate_judge.py BUNDLE --number {args.number}",
        "weights_sha256": weights,
        "rubricrm": rubricrm.__version__,
        "python": platform.python_version(),
        "kinds": {kind: vars(score) for kind, score in scores.items()},
    }
    print(table(document))
    if args.json is not None:
        args.json.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
