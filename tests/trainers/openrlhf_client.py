"""OpenRLHF's own rollout, `SingleTurnAgentExecutor`, on a server that answers with our functions, and on a file.

Prints what it saw as JSON.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from openrlhf.utils.agent import SingleTurnAgentExecutor
from rubricrm_reward import RubricReward
from rubricrm_reward.background_loop import run_in_background
from rubricrm_reward.openrlhf import answer
from scripted_jury import ScriptedSource
from tiny_policy import tokenizer

FILE = """
from rubricrm_reward import RubricReward
from rubricrm_reward.openrlhf import OpenRLHFReward
from scripted_jury import ScriptedSource

reward_func = OpenRLHFReward(RubricReward(ScriptedSource()))
"""
ENCODE = tokenizer()


class Handler(BaseHTTPRequestHandler):
    """POST /get_reward."""

    reward = RubricReward(ScriptedSource())
    statuses: ClassVar[list[int]] = []

    def do_POST(self) -> None:
        """Answer with `rubricrm_reward.openrlhf.answer`."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, reply = run_in_background(answer(self.reward, body))
        self.statuses.append(status.value)
        content = json.dumps(reply).encode()
        self.send_response(status.value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Keep the output clean."""


class Policy:
    """An engine that writes what it is told to."""

    def __init__(self, text: str) -> None:
        self.text = text

    async def generate(self, _: list[int], __: object, multi_modal_data: object = None) -> Any:  # noqa: ARG002
        """Return the ids of the text and of its end."""
        output = SimpleNamespace(
            token_ids=[*ENCODE(self.text).input_ids, ENCODE.eos_token_id], finish_reason="stop", logprobs=None
        )
        return SimpleNamespace(outputs=[output])


def roll_out(url: str, text: str, *, max_length: int = 400, request: str = "Name a color.") -> dict[str, Any]:
    """Let OpenRLHF write an answer, and fetch its reward."""
    message = [{"role": "user", "content": request}]
    prompt = ENCODE.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    sampling = SimpleNamespace(max_tokens=100, logprobs=None)
    executor = SingleTurnAgentExecutor(url)
    label = "Blue."
    found = asyncio.run(executor.execute(prompt, label, sampling, max_length, ENCODE, Policy(text)))
    return {name: found[name] for name in ("reward", "scores", "extra_logs")}


def main() -> None:
    """Reward answers by a server and by a file."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/get_reward"
    seen: dict[str, Any] = {}
    words = ("better", "worse", "equal")
    seen["server"] = [roll_out(url, f"Red is {word}") for word in words]
    # 300 tokens of prompt are left of a longer one.
    seen["cut"] = roll_out(url, "Red is better", request=f"{'Think. ' * 100}Name a color.")
    Handler.statuses.clear()
    seen["without judge"] = roll_out(url, "Red is broken")
    seen["statuses"] = Handler.statuses
    server.shutdown()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "reward.py")
        path.write_text(FILE)
        seen["file"] = [roll_out(str(path), f"Red is {word}") for word in (*words, "broken")]
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
