"""What Prometheus reads: the counters and times of this server, by vLLM's names after another prefix."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from rubricrm.generation.result import RubricResult, TextResult

from rubricrm_serve.admission import Admission

# vLLM's, so that its dashboards read these (vllm/v1/metrics/buckets.py), up to where a server of rubrics may come.
_FIRST_TOKEN = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    20,
    40,
    80,
    160,
    640,
)
_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20)
_REQUEST = (0.01, 0.03, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920)
_COUNT = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000)


class Metrics:
    """The metrics of one model, in a registry of its own: nothing of the process is in it."""

    def __init__(self, model_name: str) -> None:
        self.registry = CollectorRegistry()
        self._name = model_name
        self._prompt_tokens = self._counter("prompt_tokens", "Tokens of prompts.")
        self._generation_tokens = self._counter("generation_tokens", "Tokens that were generated.")
        self._cache_queries = self._counter("prefix_cache_queries", "Tokens of prompts that were looked up.")
        self._cache_hits = self._counter("prefix_cache_hits", "Tokens of prompts that were restored, not computed.")
        self._drafted = self._counter("spec_decode_num_draft_tokens", "Drafted tokens that were verified.")
        self._accepted = self._counter("spec_decode_num_accepted_tokens", "Drafted tokens that came true.")
        self._overrules = self._counter("grammar_overrules", "Tokens at which the form overruled the model.")
        self._success = self._counter("request_success", "Generations that ended.", "finished_reason")
        self._failures = self._counter("request_failures", "Generations that failed.", "code")
        self._refusals = self._counter("admission_rejections", "Requests for which there was no place.", "reason")
        self._judgments = self._counter("judgments", "Comparisons by what became of them.", "outcome")
        self._cut = self._counter("connections_cut", "Connections that were closed on the client.", "reason")
        self._rubrics = self._counter("rubrics", "Rubrics by what became of them.", "outcome")
        self._issues = self._counter("rubric_issues", "Deviations from the form.", "code")
        self._first_token = self._times(
            "time_to_first_token_seconds", "From the request to its first token.", _FIRST_TOKEN
        )
        self._between = self._times("inter_token_latency_seconds", "Between pieces of a stream.", _TOKEN)
        self._per_token = self._times(
            "request_time_per_output_token_seconds", "Decoding per token, by request.", _TOKEN
        )
        self._whole = self._times("e2e_request_latency_seconds", "From the request to its end.", _REQUEST)
        self._queue = self._times("request_queue_time_seconds", "Waiting for others.", _REQUEST)
        self._prefill = self._times("request_prefill_time_seconds", "Computing the prompt.", _REQUEST)
        self._decode = self._times("request_decode_time_seconds", "From the first token to the last.", _REQUEST)
        self._inference = self._times("request_inference_time_seconds", "Prompt and answer.", _REQUEST)
        self._prompt_length = self._times("request_prompt_tokens", "Tokens of a prompt.", _COUNT)
        self._answer_length = self._times("request_generation_tokens", "Tokens of an answer.", _COUNT)

    def watch(self, admission: Admission) -> None:
        """Show how many run and wait."""
        for name, text, count in (
            ("num_requests_running", "Generations that the model computes.", lambda: admission.running),
            ("num_requests_waiting", "Generations that wait for a place beside them.", lambda: admission.waiting),
        ):
            gauge = Gauge(f"rubricrm_{name}", text, ["model_name"], registry=self.registry)
            gauge.labels(self._name).set_function(count)

    def refused(self, reason: str) -> None:
        """Count a request for which there was no place."""
        self._refusals.labels(self._name, reason).inc()

    def judged(self, outcome: str) -> None:
        """Count a comparison: a verdict, or the reason why there is none."""
        self._judgments.labels(self._name, outcome).inc()

    def connection_cut(self, reason: str) -> None:
        """Count a connection that was closed because the client is slow, or because there are too many."""
        self._cut.labels(self._name, reason).inc()

    def failed(self, code: str, *, is_rubric: bool) -> None:
        """Count a generation that brought no result."""
        self._failures.labels(self._name, code).inc()
        if is_rubric:
            self._rubrics.labels(self._name, "failed").inc()

    def piece(self, seconds: float) -> None:
        """Note the time between two pieces of a stream."""
        self._between.labels(self._name).observe(seconds)

    def ended(self, result: TextResult | RubricResult) -> None:
        """Take in what a result says of itself."""
        name, usage = self._name, result.usage
        self._success.labels(name, result.finish_reason).inc()
        self._prompt_tokens.labels(name).inc(usage.prompt_tokens)
        self._generation_tokens.labels(name).inc(usage.completion_tokens)
        self._cache_queries.labels(name).inc(usage.prompt_tokens)
        self._cache_hits.labels(name).inc(usage.cached_prompt_tokens)
        self._drafted.labels(name).inc(usage.drafted_tokens)
        self._accepted.labels(name).inc(usage.accepted_tokens)
        self._prompt_length.labels(name).observe(usage.prompt_tokens)
        self._answer_length.labels(name).observe(usage.completion_tokens)
        self._take_times(result)
        if isinstance(result, RubricResult):
            self._take_rubric(result)

    def text(self) -> bytes:
        """Return all of them in Prometheus' text format."""
        return generate_latest(self.registry)

    def _take_times(self, result: TextResult | RubricResult) -> None:
        name, times, tokens = self._name, result.timings_ms, result.usage.completion_tokens
        self._whole.labels(name).observe(times.total / 1e3)
        if times.first_token is None:
            return
        self._first_token.labels(name).observe(times.first_token / 1e3)
        self._queue.labels(name).observe(max(0.0, times.first_token - times.tokenize - times.prefill) / 1e3)
        self._prefill.labels(name).observe(times.prefill / 1e3)
        self._decode.labels(name).observe(times.decode / 1e3)
        self._inference.labels(name).observe((times.prefill + times.decode) / 1e3)
        if tokens > 1:
            self._per_token.labels(name).observe(times.decode / (tokens - 1) / 1e3)

    def _take_rubric(self, result: RubricResult) -> None:
        issues = result.rubric.issues
        outcome = "cut" if result.finish_reason != "stop" else "with_issues" if issues else "clean"
        self._rubrics.labels(self._name, outcome).inc()
        for issue in issues:
            self._issues.labels(self._name, issue.code).inc()
        if result.grammar_overrules is not None:
            self._overrules.labels(self._name).inc(result.grammar_overrules.count)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"rubricrm_{name}", text, ["model_name", *labels], registry=self.registry)

    def _times(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"rubricrm_{name}", text, ["model_name"], registry=self.registry, buckets=buckets)
