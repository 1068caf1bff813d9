"""A registry as a source of images: sends what proto.registry decides, sleeps when it says so."""

from __future__ import annotations

import random

import trio

from rootless.errors import DigestMismatch, InternalError
from rootless.plan.pulling import PullEvent, Retrying
from rootless.proto.messages import (
    Again,
    Document,
    Done,
    Event,
    Failed,
    NeedCredentials,
    Retry,
    Stream,
)
from rootless.proto.registry import Asked, Exchange, RegistrySession
from rootless.pull.credentials import Keyring
from rootless.pull.http import Answer, HttpClient, NoAnswer
from rootless.pull.source import ByteSink
from rootless.spec.descriptor import Descriptor
from rootless.spec.digest import new_hasher


class RegistrySource:
    """Fetches from one repository; implements ImageSource. Retries are told to *events*."""

    def __init__(
        self,
        http: HttpClient,
        session: RegistrySession,
        keyring: Keyring,
        events: trio.MemorySendChannel[PullEvent],
    ) -> None:
        self._http = http
        self._session = session
        self._keyring = keyring
        self._events = events

    async def document(self, asked: Asked) -> Document:
        exchange = self._session.document(asked)
        while True:
            event: Event
            try:
                async with self._http.send(exchange.next_request()) as answer:
                    event = exchange.receive(answer.response)
            except NoAnswer as error:
                event = exchange.failed(error.failure)
            if isinstance(event, Document):
                return event
            await self._act(exchange, event)

    async def layer(self, descriptor: Descriptor, sink: ByteSink) -> None:
        hasher = new_hasher(descriptor.digest.algorithm)
        exchange = self._session.blob(descriptor)

        async def body(stream: Stream, answer: Answer) -> Event:
            skip = stream.skip_bytes
            async for chunk in answer.chunks():
                if skip:
                    dropped = min(skip, len(chunk))
                    skip -= dropped
                    chunk = chunk[dropped:]
                    if not chunk:
                        continue
                failed = exchange.progress(len(chunk))
                if failed is not None:
                    return failed
                hasher.update(chunk)
                await sink.write(chunk)
            return exchange.ended()

        while True:
            event: Event
            try:
                async with self._http.send(exchange.next_request()) as answer:
                    event = exchange.receive(answer.response)
                    if isinstance(event, Stream):
                        event = await body(event, answer)
            except NoAnswer as error:
                event = exchange.failed(error.failure)
            if isinstance(event, Done):
                break
            await self._act(exchange, event)
        got = hasher.hexdigest()
        if got != descriptor.digest.hex:
            raise DigestMismatch(
                f"reading {exchange.wanted.what}: the registry sent a body with the digest "
                f"{descriptor.digest.algorithm}:{got}",
                hint="the registry or something between is broken; nothing was kept",
            )

    async def _act(self, exchange: Exchange, event: Event) -> None:
        """Do what *event* says before the next request."""
        match event:
            case Again():
                return
            case Failed(error):
                raise error
            case Retry(delay_ms, why):
                await self._events.send(Retrying(exchange.wanted.what, why, delay_ms))
                # Layers that failed together should not come back together.
                await trio.sleep(delay_ms / 1000 * random.uniform(0.9, 1.2))
            case NeedCredentials(domain):
                if not self._session.credentials_known:
                    self._session.set_credentials(await self._keyring.lookup(domain, self._session.reference.path))
                follow = exchange.after_credentials()
                if isinstance(follow, Failed):
                    raise follow.error
            case _:
                raise InternalError(f"unexpected {event!r} for {exchange.wanted.what}")
