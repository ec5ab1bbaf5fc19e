"""A switch as Locust plays it: keep-alive connections, one question after the other."""

import itertools

from locust import FastHttpUser, constant, task

from benchmarks.traffic import questions

_seeds = itertools.count(1)


class Switch(FastHttpUser):
    """Asks without pause about its own seeded calls; an answer without a verdict is a failure."""

    wait_time = constant(0)
    connection_timeout = 2.0
    network_timeout = 2.0

    def on_start(self) -> None:
        self.questions = questions(next(_seeds))

    @task
    def screen(self) -> None:
        with self.client.post(
            "/v1/screen", json=next(self.questions), name="/v1/screen", catch_response=True
        ) as answer:
            if answer.status_code != 200:
                answer.failure(f"status {answer.status_code}")
            elif b'"action"' not in (answer.content or b""):
                answer.failure("no verdict in the answer")
