"""Resident memory does not grow with requests or with openings. Each test has a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAD = """
import gc, json, random, sys
import psutil
from rubricrm import RubricModel

path = sys.argv[1]
process = psutil.Process()
rng = random.Random(0)

def resident():
    gc.collect()
    return process.memory_info().rss

def generate(model):
    request = "word " * rng.randrange(1, 200)
    model.generate(request, max_new_tokens=rng.randrange(1, 40), temperature=rng.choice((0.0, 1.0)), logprobs=2)

"""
GENERATIONS = """
with RubricModel.open(path, threads=1) as model:
    sizes = []
    for _ in range(200):
        generate(model)
        sizes.append(resident())
print(json.dumps(sizes))
"""
OPENINGS = """
sizes = []
for _ in range(20):
    with RubricModel.open(path, threads=1) as model:
        model.generate("Write a haiku.", max_new_tokens=20)
    del model
    sizes.append(resident())
print(json.dumps(sizes))
"""


def sizes(script: str, bundle: Path) -> list[int]:
    command = [sys.executable, "-c", HEAD + script, str(bundle)]
    # One heap: else a thread may get one of its own, of some megabytes, and when it does is chance.
    env = os.environ | {"MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    values: list[int] = json.loads(done.stdout)
    return values


@pytest.mark.parametrize(
    ("script", "settled", "last"),
    [(GENERATIONS, 20, 200), (OPENINGS, 5, 20)],
    ids=["200-generations", "20-openings"],
)
def test_resident_memory_stays_within_3_percent(tiny_bundle: Path, script: str, settled: int, last: int) -> None:
    resident = sizes(script, tiny_bundle)
    assert len(resident) == last
    assert resident[-1] <= 1.03 * resident[settled - 1], [size >> 10 for size in resident]
