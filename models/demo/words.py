"""Word lists from which the requests are filled, and words that nobody has seen before."""

import random

NOUNS = ["garden", "river", "engine", "market", "kitchen", "library", "mountain", "bridge", "window", "village", "school", "hospital", "ticket", "train", "camera", "lantern", "compass", "orchard", "harbor", "forest", "desert", "island", "castle", "tower", "mirror", "clock", "letter", "notebook", "pencil", "carpet", "blanket", "bottle", "basket", "ladder", "hammer", "wheel", "bicycle", "tractor", "boat", "ferry", "rocket", "satellite", "planet", "comet", "storm", "cloud", "shadow", "dream", "memory", "promise", "secret", "rumor", "holiday", "festival", "concert", "orchestra", "violin", "drum", "dancer", "painter", "sculptor", "baker", "farmer", "carpenter", "sailor", "pilot", "doctor", "nurse", "teacher", "student", "lawyer", "judge", "detective", "thief", "king", "queen", "knight", "dragon", "wizard", "robot", "android", "ghost", "giant", "fox", "owl", "whale", "dolphin", "rabbit", "turtle", "spider", "beetle", "eagle", "sparrow", "horse", "donkey", "dog", "wolf", "contract", "invoice", "budget", "report", "survey", "deadline", "meeting", "project", "roadmap", "launch", "newsletter", "website", "server", "router", "database", "cache", "queue", "thread", "packet", "token", "password", "backup", "dashboard", "widget", "button", "menu", "form", "parser", "compiler", "kernel", "sensor", "battery", "circuit", "motor", "pump", "valve", "filter", "boiler", "furnace", "radiator", "heater", "fridge", "oven", "kettle", "sofa", "table", "chair", "lamp", "curtain", "roof", "wall", "floor", "basement", "attic", "garage", "fence", "gate", "path", "road", "tunnel", "station", "airport", "museum", "theater", "cinema", "stadium", "gym", "pool", "playground", "park", "fountain", "statue", "church", "temple", "mosque", "palace", "office", "factory", "warehouse", "shop", "bakery", "cafe", "restaurant", "hotel", "hostel", "tent", "cabin", "farm", "barn", "mill", "well", "pond", "lake", "beach", "cliff", "valley", "canyon", "glacier", "volcano", "lesson", "exam", "essay", "thesis", "lecture", "workshop", "seminar", "course", "degree", "skill", "habit", "hobby", "sport", "game", "puzzle", "riddle", "song", "melody", "rhythm", "chorus", "verse", "story", "novel", "chapter", "plot", "hero", "villain", "scene", "dialogue", "script", "film", "photo", "poster", "logo", "slogan", "brand", "customer", "client", "partner", "vendor", "manager", "intern", "colleague", "neighbor", "tenant", "landlord", "cousin", "sister", "brother", "uncle", "aunt", "grandmother", "friend", "rival", "stranger", "tourist", "guide", "driver", "passenger", "patient", "therapist", "coach", "athlete", "runner", "swimmer", "muscle", "bone", "heart", "lung", "liver", "kidney", "brain", "nerve", "skin", "vaccine", "virus", "cell", "gene", "protein", "enzyme", "vitamin", "hormone", "atom", "molecule", "electron", "photon", "magnet", "laser", "prism", "telescope", "microscope", "theorem", "equation", "matrix", "vector", "integral", "function", "triangle", "circle", "polygon", "graph", "tree", "stack", "loop", "variable", "pointer", "module", "package", "test", "bug", "error", "warning", "log", "tax", "loan", "mortgage", "pension", "insurance", "stock", "bond", "fund", "dividend", "salary", "bonus", "refund", "discount", "coupon", "price", "fee", "wage", "treaty", "election", "senate", "parliament", "mayor", "minister", "citizen", "refugee", "border", "empire", "colony", "revolution", "war", "peace", "bread", "cheese", "soup", "salad", "noodle", "rice", "potato", "tomato", "onion", "carrot", "pepper", "apple", "lemon", "cherry", "peach", "grape", "melon", "honey", "sugar", "butter", "coffee", "tea", "juice", "chocolate", "cookie", "cake", "pie", "sandwich", "pasta", "pizza", "curry", "sauce", "spice", "herb", "seed", "root", "leaf", "flower", "rose", "tulip", "fern", "moss", "oak", "pine", "willow", "maple", "soil", "compost", "rain", "wind", "frost", "sunrise", "sunset", "season", "spring", "winter", "glossary", "table", "timeline", "summary", "checklist", "disclaimer", "footnote", "citation", "quotation", "title", "subtitle", "heading", "caption", "diagram", "example", "analogy", "metaphor", "anecdote", "definition", "formula", "proof", "hint", "question", "answer", "greeting", "signature", "signoff", "postscript", "reference", "link", "placeholder", "comment", "docstring", "assertion", "exception", "parameter", "header", "footer", "column", "row", "keyword", "acronym", "abbreviation", "statistic", "percentage", "figure", "date", "deadline", "address", "recipe", "ingredient", "step", "tip", "mistake", "myth", "fact", "opinion", "argument", "counterargument", "objection", "benefit", "drawback", "risk", "trade-off", "limitation", "assumption", "conclusion", "introduction", "overview", "recommendation", "solution", "alternative", "option", "reason", "cause", "effect", "consequence"]

PLURAL_EXCEPTIONS = {
    "wolf": "wolves", "leaf": "leaves", "thief": "thieves", "knife": "knives", "potato": "potatoes",
    "tomato": "tomatoes", "hero": "heroes", "volcano": "volcanoes", "matrix": "matrices", "thesis": "theses",
    "bus": "buses", "virus": "viruses", "class": "classes", "boss": "bosses",
}

ADJECTIVES = ["short", "long", "brief", "small", "large", "tiny", "huge", "quiet", "loud", "gentle", "fierce", "brave", "shy", "clever", "foolish", "honest", "kind", "cruel", "warm", "cold", "hot", "cool", "dry", "wet", "soft", "hard", "smooth", "rough", "bright", "dark", "pale", "golden", "silver", "red", "green", "yellow", "purple", "blue", "old", "young", "ancient", "modern", "new", "fresh", "stale", "sweet", "sour", "bitter", "salty", "spicy", "simple", "complex", "clear", "vague", "precise", "formal", "informal", "casual", "polite", "friendly", "cheerful", "sad", "gloomy", "angry", "calm", "nervous", "excited", "proud", "humble", "lazy", "busy", "careful", "careless", "patient", "strict", "serious", "playful", "funny", "witty", "dry", "sarcastic", "dramatic", "poetic", "technical", "practical", "theoretical", "historical", "fictional", "imaginary", "real", "local", "global", "rural", "urban", "coastal", "remote", "distant", "nearby", "hidden", "secret", "public", "private", "personal", "shared", "common", "rare", "unusual", "strange", "typical", "famous", "obscure", "popular", "cheap", "expensive", "free", "heavy", "light", "fast", "slow", "early", "late", "annual", "monthly", "weekly", "daily", "final", "first", "second", "third", "last", "main", "minor", "major", "critical", "optional", "mandatory", "valid", "broken", "empty", "full", "open", "closed", "sharp", "blunt", "round", "square", "flat", "steep", "narrow", "wide", "deep", "shallow", "thick", "thin", "strong", "weak", "fragile", "sturdy", "wooden", "plastic", "metallic", "digital", "electric", "solar", "nuclear", "organic", "vegan", "healthy", "harmful", "safe", "dangerous", "toxic", "medical", "legal", "financial", "scientific", "academic", "creative", "musical", "visual", "written", "spoken", "concise", "detailed", "thorough", "realistic", "optimistic", "pessimistic", "neutral", "balanced", "objective", "persuasive", "convincing", "inspiring", "professional", "respectful"]

TONES = ["formal", "informal", "casual", "friendly", "warm", "cheerful", "serious", "playful", "witty", "humorous", "sarcastic", "dramatic", "poetic", "professional", "respectful", "polite", "apologetic", "enthusiastic", "neutral", "objective", "persuasive", "confident", "encouraging", "reassuring", "empathetic", "urgent", "upbeat", "sober", "dry", "ironic", "nostalgic", "mysterious", "gloomy", "optimistic", "skeptical", "conversational", "academic", "plain", "inspiring", "direct", "gentle", "firm", "diplomatic", "sincere", "modest", "bold", "romantic", "melancholic", "matter-of-fact", "lighthearted"]

VERBS = ["explain", "describe", "mention", "include", "list", "name", "show", "give", "add", "provide", "define", "discuss", "highlight", "state", "cite", "quote", "present", "address", "cover", "outline", "summarize", "introduce", "identify", "justify", "compare", "contrast", "evaluate", "analyze", "illustrate", "emphasize", "recommend", "suggest", "propose", "answer", "clarify", "note", "specify", "acknowledge", "criticize", "praise", "thank", "invite", "greet", "warn", "remind", "ask", "number", "label", "mark", "sort", "group", "rank", "order", "underline", "bold", "italicize", "capitalize", "translate", "convert", "calculate", "compute", "derive", "prove", "verify", "test", "check", "validate", "handle", "catch", "raise", "return", "print", "log", "read", "write", "open", "close", "save", "load", "parse", "format", "sanitize", "encrypt", "compress", "cache", "sort", "filter", "merge", "split", "reverse", "count", "measure", "estimate", "round", "limit", "restrict", "reduce", "increase", "remove", "delete", "replace", "rename", "keep", "preserve", "avoid", "skip", "omit", "ignore", "repeat", "rhyme", "end", "start", "begin", "open", "conclude", "finish", "use", "apply", "follow", "respect", "match", "reflect", "support", "oppose", "defend", "challenge", "question", "reveal", "hide", "contain"]

THIRD_PERSON = ["reads", "writes", "prints", "returns", "finds", "removes", "counts", "sorts", "merges", "checks", "validates", "parses", "converts", "draws", "sends", "stores", "loads", "deletes", "renames", "copies", "compares", "computes", "counts", "downloads", "uploads", "encrypts", "decodes", "splits", "joins", "rotates", "schedules", "logs", "filters", "groups", "ranks", "shuffles", "simulates", "caches", "watches", "monitors", "moves", "resizes", "compresses", "hashes"]

STORY_VERBS = ["loses", "finds", "steals", "builds", "paints", "repairs", "discovers", "forgets", "remembers", "befriends", "follows", "fears", "inherits", "buys", "sells", "hides", "meets", "rescues", "betrays", "teaches", "hears", "draws", "invents", "opens", "breaks", "collects", "trades", "guards", "hunts", "misses", "visits"]

PEOPLE = ["children", "teenagers", "beginners", "experts", "parents", "teachers", "students", "retirees", "engineers", "nurses", "doctors", "farmers", "investors", "managers", "tourists", "gamers", "developers", "designers", "scientists", "athletes", "musicians", "novices", "volunteers", "lawyers", "journalists", "pensioners", "commuters", "gardeners", "cyclists", "hikers", "recruiters", "executives", "freelancers", "toddlers", "newcomers", "customers"]

NAMES = ["Maria", "Tom", "Aisha", "Chen", "Olga", "Pedro", "Nina", "Kofi", "Lars", "Yuki", "Priya", "Omar", "Greta", "Diego", "Hana", "Felix", "Rosa", "Ivan", "Leila", "Noah", "Mei", "Jonas", "Zara", "Paul", "Ines", "Emil", "Fatima", "Hugo", "Elena", "Viktor", "Sana", "Oscar", "Ruth", "Samir", "Klara", "Ali", "Nora", "Bruno", "Tess", "Ravi", "Anya", "Leo", "Mina", "Karl"]

PLACES = ["Berlin", "Kyoto", "Nairobi", "Lima", "Oslo", "Cairo", "Mumbai", "Toronto", "Seoul", "Prague", "Vienna", "Athens", "Dublin", "Boston", "Sydney", "Hanoi", "Quito", "Rome", "Istanbul", "Marrakesh", "Helsinki", "Warsaw", "Budapest", "Havana", "Chicago", "Madrid", "Bergen", "Tallinn", "Porto", "Naples", "Accra", "Denver", "Iceland", "Peru", "Kenya", "Norway", "Vietnam", "Chile", "Morocco", "Scotland", "Japan", "Canada", "Brazil", "Portugal", "Greece", "India", "Egypt", "Mexico", "Poland"]

LANGUAGES = ["German", "French", "Spanish", "Italian", "Portuguese", "Dutch", "Swedish", "Polish", "Russian", "Japanese", "Chinese", "Korean", "Arabic", "Hindi", "Turkish", "Greek", "Latin", "Finnish", "Danish", "Czech", "Hungarian", "Ukrainian", "English", "Vietnamese", "Swahili"]

PROGRAMMING_LANGUAGES = ["Python", "JavaScript", "TypeScript", "Java", "C", "C++", "Rust", "Go", "Ruby", "Kotlin", "Swift", "Haskell", "Scala", "PHP", "Perl", "R", "Julia", "Lua", "C#", "Elixir", "Dart"]

NUMBER_WORDS = ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "fifteen", "twenty", "thirty"]

ORDINALS = ["first", "second", "third", "fourth", "fifth", "last", "final"]

UNITS = ["words", "sentences", "paragraphs", "lines", "bullet_points", "characters", "examples", "steps", "items", "points", "stanzas", "verses", "pages", "sections", "questions", "reasons", "tips", "facts", "arguments", "rows", "columns", "syllables", "tweets", "slides", "quotes", "headings", "ideas", "options"]

ONSETS = ["b", "bl", "br", "c", "ch", "cl", "cr", "d", "dr", "f", "fl", "fr", "g", "gl", "gr", "h", "j", "k", "kl", "l", "m", "n", "p", "pl", "pr", "qu", "r", "s", "sc", "sh", "sk", "sl", "sm", "sn", "sp", "st", "str", "t", "th", "tr", "v", "w", "y", "z"]
NUCLEI = ["a", "e", "i", "o", "u", "ai", "au", "ea", "ee", "ei", "ia", "ie", "io", "oa", "oo", "ou", "ue"]
CODAS = ["-", "-", "-", "-", "b", "ck", "d", "f", "g", "l", "ll", "ld", "lt", "m", "mb", "mp", "n", "nd", "ng", "nk", "nt", "p", "r", "rd", "rk", "rm", "rn", "rt", "s", "sh", "sk", "ss", "st", "t", "th", "v", "x", "z"]
ENDINGS = ["-", "-", "-", "-", "er", "ing", "ed", "ly", "ion", "ity", "al", "ic", "ous", "ive", "ant", "ent", "ment", "ness", "able", "ist", "ism", "or", "ure", "age", "ery", "ade", "ine", "oid", "um"]


def nonsense(rng: random.Random) -> str:
    """A pronounceable word that no list holds, so that the model can only copy it from the request."""
    syllables = (
        rng.choice(ONSETS) + rng.choice(NUCLEI) + rng.choice(CODAS).strip("-") for _ in range(rng.choice((1, 1, 2)))
    )
    return "".join(syllables) + rng.choice(ENDINGS).strip("-")


def plural(noun: str) -> str:
    """The plural of an English noun."""
    if noun in PLURAL_EXCEPTIONS:
        return PLURAL_EXCEPTIONS[noun]
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in tuple("aeiou"):
        return noun[:-1] + "ies"
    return noun + "s"


def with_article(phrase: str) -> str:
    """The phrase with `a` or `an` before it."""
    exceptions = ("uni", "use", "eu", "one", "ur")
    vowel = phrase[:1].lower() in tuple("aeiou") and not phrase.lower().startswith(exceptions)
    vowel = vowel or phrase.startswith(("honest", "hour", "SQL", "FAQ", "HTML", "8", "11", "18"))
    return f"{'an' if vowel else 'a'} {phrase}"


def gerund(verb: str) -> str:
    """The -ing form of a verb."""
    if verb in DOUBLED:
        return verb + verb[-1] + "ing"
    if verb.endswith("e") and not verb.endswith(("ee", "ye")):
        return verb[:-1] + "ing"
    return verb + "ing"


DOUBLED = frozenset(["begin", "put", "split", "sort_of", "cut", "set", "get", "stop", "plan", "skip", "omit", "run", "hit", "trim", "swap", "tag", "map"])
