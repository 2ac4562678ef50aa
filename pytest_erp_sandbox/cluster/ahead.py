"""Reading ahead: one connection is read while another one is written."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from contextlib import suppress
from queue import Full, Queue
from typing import TypeVar

__all__ = ["read_ahead"]

T = TypeVar("T")

_BEAT = 0.2
"""Seconds after which a reader that waits for room looks whether anybody still wants it."""


def read_ahead(items: Iterable[T], limit: int) -> Generator[T]:
    """The same items, read in a thread of their own, at most ``limit`` of them before they are wanted."""
    queue: Queue[tuple[bool, T | BaseException | None]] = Queue(limit)
    abandoned = threading.Event()

    def put(is_item: bool, item: T | BaseException | None) -> None:
        while not abandoned.is_set():
            with suppress(Full):
                queue.put((is_item, item), timeout=_BEAT)
                return

    def read() -> None:
        end: BaseException | None = None
        try:
            for item in items:
                put(True, item)
                if abandoned.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that wants the items
            end = error
        put(False, end)

    threading.Thread(target=read, daemon=True).start()
    try:
        while True:
            is_item, item = queue.get()
            if is_item:
                yield item  # type: ignore[misc]
            elif isinstance(item, BaseException):
                raise item
            else:
                return
    finally:
        abandoned.set()
