"""Clients that come and go at random, against a server in a process of its own: `come_and_go.py --clients 300`.

Each sends some requests, whole or as streams, and leaves some of them in the middle. At the end nothing runs or waits,
no connection, file or thread is left, memory has not grown between two equal parts, and no request that was not left is
without an answer. Prints one JSON object; exit code 1 where any of this does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import resource
import subprocess
import sys
import time
from collections import Counter

import httpx2
import psutil

REQUESTS = 4  # of each client, in each part
KINDS = (
    ("/v1/rubrics", {"request": "Write {n} lines."}),
    ("/v1/rubrics", {"request": "Write {n} lines.", "stream": True}),
    ("/v1/chat/completions", {"model": "rubricrm-demo", "messages": [{"role": "user", "content": "Write {n}."}]}),
    ("/v1/completions", {"model": "rubricrm-demo", "prompt": "Write {n}.", "stream": True, "n": 2, "temperature": 1}),
    ("/v1/completions", {"model": "rubricrm-demo", "prompt": "Write {n}.", "n": 99}),
    ("/tokenize", {"prompt": "Write {n}."}),
)


async def send(url: str, draw: random.Random) -> str:
    """Send a request on a connection of its own, and maybe leave; return what became of it."""
    path, fields = draw.choice(KINDS)
    limit = {"max_new_tokens" if path == "/v1/rubrics" else "max_tokens": draw.choice((1, 8, 30))}
    body = json.dumps(fields).replace("{n}", str(draw.randrange(1000)))
    content = json.dumps(json.loads(body) | ({} if path == "/tokenize" else limit))
    try:
        async with asyncio.timeout(draw.choice((None, None, 0.001, 0.02, 0.2, 1.0))):
            headers = {"content-type": "application/json"}
            async with (
                httpx2.AsyncClient(base_url=url, timeout=300, verify=False) as client,
                client.stream("POST", path, content=content, headers=headers) as answer,
            ):
                text = (await answer.aread()).decode()
                return outcome(answer, text)
    except TimeoutError:
        return "left"
    except httpx2.HTTPError as error:
        return repr(error)


def outcome(answer: httpx2.Response, text: str) -> str:
    """Return the status of an answer, or why it is not whole."""
    is_stream = answer.headers["content-type"].startswith("text/event-stream")
    is_whole = "data: [DONE]" in text or "event: result" in text if is_stream else bool(json.loads(text))
    return str(answer.status_code) if is_whole else f"{answer.status_code}, not whole"


async def part(url: str, clients: int, seed: int) -> Counter[str]:
    """Let all clients come and go once."""

    async def one(number: int) -> list[str]:
        draw = random.Random(seed * clients + number)
        await asyncio.sleep(draw.random() * clients / 50)
        return [await send(url, draw) for _ in range(REQUESTS)]

    found = await asyncio.gather(*map(one, range(clients)))
    return Counter(each for results in found for each in results)


def state(process: psutil.Process, url: str) -> dict[str, float]:
    """Wait until the server is idle; return what it holds."""
    end = time.monotonic() + 60
    while (queue := httpx2.get(f"{url}/queue").json())["running"] + queue["waiting"] and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(1.0)
    return {
        "running": queue["running"],
        "waiting": queue["waiting"],
        "files": process.num_fds(),
        "threads": process.num_threads(),
        "connections": len([each for each in process.net_connections() if each.status == "ESTABLISHED"]),
        "cut": sum(
            map(float, re.findall(r"(?m)^rubricrm_connections_cut_total.* (\S+)$", httpx2.get(f"{url}/metrics").text))
        ),
        "rss_mb": round(process.memory_info().rss / 1e6, 1),
    }


def run(clients: int) -> tuple[dict[str, object], list[str]]:
    """Run all parts; return the facts, and what is wrong."""
    command = [sys.executable, "-m", "rubricrm", "serve", "--port", "0", "--no-access-log", "--max-waiting", "2000"]
    command += ["--header-timeout", "300"]  # these clients share one loop, and may take long to send what they began
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            url = next(match[1] for line in server.stderr if (match := re.search(r"at (http://\S+)", line)))
            process, outcomes, states = psutil.Process(server.pid), Counter[str](), []
            for seed in range(3):
                outcomes += asyncio.run(part(url, clients, seed))
                states.append(state(process, url))
            server.terminate()
            code = server.wait(60)
        finally:
            server.kill()
    problems = [f"{count} times {name}" for name, count in outcomes.items() if name not in ("200", "400", "left")]
    problems += [f"{states[-1][name]} {name}" for name in ("running", "waiting") if states[-1][name]]
    problems += [name for name in ("files", "threads", "connections") if states[-1][name] > states[0][name] + 4]
    problems += ["rss_mb"] if states[-1]["rss_mb"] > states[1]["rss_mb"] * 1.05 + 5 else []
    problems += [f"exit code {code}"] if code else []
    return {"clients": clients, "outcomes": dict(outcomes), "after_each_part": states, "exit_code": code}, problems


def main() -> int:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=300)
    wanted = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    facts, problems = run(parser.parse_args().clients)
    print(json.dumps({**facts, "problems": problems}, indent=2))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
