"""Users of `rubricrm serve` for locust: rubrics at once and streamed, chat, and looks at the status."""

import json

from locust import HttpUser, between, events, task


class Writer(HttpUser):
    """Asks, reads and asks again."""

    wait_time = between(0.0, 0.2)

    @task(3)
    def rubric(self) -> None:
        body = {"request": "Write a haiku about rain.", "max_new_tokens": 40}
        with self.client.post("/v1/rubrics", json=body, catch_response=True) as answer:
            if answer.status_code == 200 and answer.json()["finish_reason"] not in ("stop", "length"):
                answer.failure(f"finish_reason {answer.json()['finish_reason']}")

    @task(3)
    def streamed(self) -> None:
        body = {"request": "Explain tides in three sentences.", "max_new_tokens": 40, "stream": True}
        with self.client.post("/v1/rubrics", json=body, stream=True, catch_response=True, name="stream") as answer:
            lines = [line for line in answer.iter_lines() if line]
            if answer.status_code == 200 and lines[-2] != b"event: result":
                answer.failure(f"ends with {lines[-2:]}")

    @task(1)
    def chat(self) -> None:
        body = {
            "model": "rubricrm-demo",
            "messages": [{"role": "user", "content": "Name three colors."}],
            "max_tokens": 20,
        }
        with self.client.post("/v1/chat/completions", json=body, catch_response=True) as answer:
            if answer.status_code == 200 and not answer.json()["choices"]:
                answer.failure("no choice")

    @task(1)
    def status(self) -> None:
        self.client.get("/metrics")


@events.quitting.add_listener
def _say(environment, **_: object) -> None:  # type: ignore[no-untyped-def]
    total = environment.stats.total
    print(json.dumps({"requests": total.num_requests, "failures": total.num_failures}), flush=True)
