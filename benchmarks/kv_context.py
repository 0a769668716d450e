#!/usr/bin/env python3
"""What a quantized KV cache loses as the context grows: KL to the same weights with a float cache.

    kv_context.py BUNDLE REFERENCE TEXT [--contexts 128,1024,4096]

Both bundles read the text from its beginning. After each context length the distributions of the next 64 tokens are
compared, each model on its own cache. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.session import Session
from rubricrm.runtime.tokenizer import Tokenizer

ROWS = 64
CHUNK = 256


def main() -> None:
    """Compare two bundles and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--contexts", default="128,1024,4096")
    options = parser.parse_args()
    contexts = [int(context) for context in options.contexts.split(",")]
    bundle, reference = Bundle.open(options.bundle), Bundle.open(options.reference)
    tokenizer = Tokenizer.from_file(bundle.file(bundle.manifest.tokenizer.file))
    ids = tokenizer.encode(options.text.read_text("utf-8"))
    if len(ids) < max(contexts) + ROWS:
        parser.error(f"{options.text} has {len(ids)} tokens, {max(contexts) + ROWS} are needed")
    exact, found = (log_probabilities(model, ids, contexts) for model in (reference, bundle))
    report = {}
    for context, p, q in zip(contexts, exact, found, strict=True):
        kl = float((np.exp(p) * (p - q)).sum(1).mean())
        report[str(context)] = {"kl": kl, "top1_agreement": float((p.argmax(1) == q.argmax(1)).mean())}
    print(json.dumps({"bundle": bundle.manifest.graph.kv_type, "contexts": report}, indent=2))


def log_probabilities(bundle: Bundle, ids: list[int], contexts: list[int]) -> list[NDArray[np.float64]]:
    """Return, for each context length, the log-probabilities [64, vocabulary] that follow it."""
    session = Session(bundle)
    slot = session.new_slot(max(contexts) + ROWS)
    found = []
    for context in contexts:
        slot.cache.rewind(context)
        for start in range(slot.cache.length, context, CHUNK):
            session.run(slot, ids[start : min(start + CHUNK, context)])
        logits = session.run(slot, ids[context : context + ROWS], rows=ROWS).astype(np.float64)
        logits -= logits.max(1, keepdims=True)
        found.append(logits - np.log(np.exp(logits).sum(1, keepdims=True)))
    session.close()
    return found


if __name__ == "__main__":
    main()
