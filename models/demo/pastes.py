"""Texts that users paste below a request: code, errors, articles, meetings, tables. No rule comes from them."""

from phrases import SLOTS, Filler, quoted


def code(f: Filler) -> str:
    """A small function that looks like one a user would ask about."""
    function, first, second, third, helper = (f.fill("{identifier}") for _ in range(5))
    comment = f.pick(
        "",
        "",
        "  # {verb} the {noun}",
        "  # must {verb} {np}",
        "  # at most {small} {plurals}",
        "  # TODO: {verb} {plurals}",
    )
    limit = f.rng.randint(0, 100)
    shapes = (
        f"def {function}({first}, {second}):{comment}\n    {third} = []\n    for x in {first}:\n"
        f"        if x > {limit}:\n            {third}.append({helper}(x))\n    return {third}",
        f"def {function}({first}):{comment}\n    {third} = {limit}\n    while {third} < len({first}):\n"
        f"        {third} += 1\n    return {third}",
        f"function {function}({first}) {{\n  let {third} = {limit};\n"
        f"  for (const x of {first}) {third} += x.{second};\n  return {third};\n}}",
        f"int {function}(int {first}) {{\n  int {third} = {limit};\n  return {third} / {first};\n}}",
        f"class {function.title().replace('_', '')}:{comment}\n    def {second}(self, {first}):\n"
        f"        self.{third} = {first}\n        return {helper}({first}, {limit})",
        f"SELECT {first}, {second} FROM {third} WHERE {helper} > {limit};",
        f"for {first} in $(ls {second}); do\n  {helper} ${first} {limit}\ndone",
        f"{first} = {function}({second})\nif {first} == None:\n    print('{f.fill('{noun} {adj}')}')\n"
        f"{third} = {first}[{limit}]",
        f"public static int {function}(List<Integer> {first}) {{\n    for (int i = 0; i <= {first}.size(); i++) {{\n"
        f"        {third} += {first}.get(i);\n    }}\n    return {third};\n}}",
    )
    text = f.rng.choice(shapes)
    return f"```\n{text}\n```" if f.rng.random() < 0.2 else text


def sentences(f: Filler, low: int, high: int) -> str:
    return " ".join(f.fill("{pasted}") for _ in range(f.rng.randint(low, high)))


def paragraph(f: Filler) -> str:
    return sentences(f, 2, 5)


def sentence(f: Filler) -> str:
    """One or two sentences, in quotation marks more often than not."""
    text = sentences(f, 1, 2)
    return quoted(text, f.rng) if f.rng.random() < 0.75 else text


def meeting(f: Filler) -> str:
    """What two to four people said, on one line or on a line each."""
    speakers = [f.fill("{name}") for _ in range(f.rng.randint(2, 4))]
    turns = [f"{f.rng.choice(speakers)}: {f.pick('{spoken}', '{spoken} {spoken}')}" for _ in range(f.rng.randint(3, 6))]
    return f.rng.choice((" ", "\n")).join(turns)


def csv(f: Filler) -> str:
    rows = [", ".join(f.pick("{noun}", "{name}", "{number}") for _ in range(3)) for _ in range(f.rng.randint(2, 4))]
    return "\n".join(rows)


def email(f: Filler) -> str:
    return f.fill("(Hi|Dear|Hello) {name},\n") + paragraph(f) + f.fill("\n(Best|Regards|Thanks),\n{name}")


PASTES = {
    "code": code,
    "error": lambda f: f.fill("{error}"),
    "regex": lambda f: f.fill("{regex_text}"),
    "paragraph": paragraph,
    "sentence": sentence,
    "meeting": meeting,
    "csv": csv,
    "email": email,
}

SLOTS |= {
    "json_text": lambda f: f.fill('{identifier}": {number}').join(('{"', "}")),
    "small_braces": lambda f: f"{{{f.rng.randint(2, 9)}}}",
    "clause_cap": lambda f: capitalized(f.fill("{clause}")),
    "np_cap": lambda f: capitalized(f.fill("{np}")),
    "sentence": sentence,
}


def capitalized(text: str) -> str:
    """The text with its first letter in upper case and nothing else changed."""
    return text[:1].upper() + text[1:]
