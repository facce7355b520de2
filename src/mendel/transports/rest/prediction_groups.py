"""Answer the predictions of one turn of the event loop, over all fast connections, as one group of calls."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import cast

from mendel.errors import MendelError
from mendel.serving import Answered, InferenceAnswer, InferenceCall
from mendel.transports.rest.application import RestApplication
from mendel.transports.rest.exchange import AnsweringConnection, Exchange
from mendel.transports.rest.http_messages import Response
from mendel.values import Scope

_Verdicts = dict[tuple[str | None, Scope | None], MendelError | None]


class PredictionGroups:
    """
    Gives the predictions that arrive in one turn of the event loop to the kernel together, and writes their answers.

    A key is checked once per turn, and a connection is written once per batch of the kernel.
    """

    def __init__(self, application: RestApplication) -> None:
        self._application = application
        self._limit = application.kernel.policy.max_body_bytes
        self._waiting: list[Exchange] = []

    def add(self, exchange: Exchange) -> None:
        """Answer *exchange*, which is a prediction or has its answer in ``refusal``, at the end of this turn."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._submit)
        self._waiting.append(exchange)

    def finish(self, answers: Iterable[tuple[Exchange, Response]]) -> None:
        """Write *answers*, each connection once, and count them."""
        connections: dict[AnsweringConnection, None] = {}
        counted = []
        for exchange, response in answers:
            connections[exchange.connection] = None
            if exchange.counted:
                exchange.finish(self._application.granted(exchange, response))
                counted.append((exchange, response.status))
            else:
                exchange.finish(response)
        for connection in connections:
            connection.write_answers()
        self._application.count(counted)

    def _submit(self) -> None:
        waiting, self._waiting = self._waiting, []
        verdicts: _Verdicts = {}
        calls: list[InferenceCall] = []
        refused: list[tuple[Exchange, Response]] = []
        for exchange in waiting:
            response = exchange.refusal or self._refusal(exchange, verdicts)
            if response is None:
                try:
                    calls.append(self._decoded(exchange))
                    continue
                except Exception as error:  # noqa: BLE001 - a defect of Mendel fails one request and not the others
                    response = self._application.failure(exchange, error)
            refused.append((exchange, response))
        if calls:
            self._application.kernel.submit_many(calls, self._done)
        self.finish(refused)

    def _refusal(self, exchange: Exchange, verdicts: _Verdicts) -> Response | None:
        """Give the response if the key of *exchange* does not suffice; *verdicts* are those of this turn."""
        assert exchange.route is not None  # noqa: S101 - else the exchange has a refusal
        key = exchange.credential, exchange.route.scope
        if key not in verdicts:
            try:
                self._application.authorize(exchange)
                verdicts[key] = None
            except MendelError as error:
                verdicts[key] = error.with_traceback(None)  # frames would keep each other until garbage is collected
            except Exception as error:  # noqa: BLE001 - a defect of Mendel fails one request and not the others
                return self._application.failure(exchange, error)
        verdict = verdicts[key]
        return None if verdict is None else self._application.failure(exchange, verdict)

    def _decoded(self, exchange: Exchange) -> InferenceCall:
        endpoint = exchange.prediction
        assert endpoint is not None  # noqa: S101 - only predictions wait here
        body = exchange.whole_body(self._limit)
        call, exchange.encode = endpoint.decode(self._application.context, exchange, body)
        return call

    def _done(self, answered: Sequence[Answered]) -> None:
        self.finish([self._answer(cast("Exchange", call.caller), outcome) for call, outcome in answered])

    def _answer(self, exchange: Exchange, outcome: InferenceAnswer | Exception) -> tuple[Exchange, Response]:
        if isinstance(outcome, Exception):
            return exchange, self._application.failure(exchange, outcome)
        try:
            exchange.model = outcome.metadata.model
            assert exchange.encode is not None  # noqa: S101 - set with the call
            response = exchange.encode(outcome)
        except Exception as error:  # noqa: BLE001 - a model's answer that no format can carry fails one request
            response = self._application.failure(exchange, error)
        return exchange, response
