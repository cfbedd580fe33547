"""Answers the SDK's attachment upload requests from a spool instead of the network.

The SDK's ``flush()`` asks for a signed URL, puts the content there, and says how that went. Left to the network
it waits for three round trips, or for ever if the network is down, and attachments that it can't upload are lost. Here
it receives a URL that only the gateway serves, the content goes to a file beside the journal, and
:mod:`trace_guard.delivery.uploads` does the rest. Imported with the first attachment: most processes have none.
"""

from __future__ import annotations

import urllib.parse
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ..contain import contain, warn_once
from ..journal.attachments import Spool
from ..journal.spooled import Content, SpooledAttachment
from ..rows import Row

if TYPE_CHECKING:
    from ..delivery.courier import Courier
    from ..journal.base import Journal, WritableJournal

__all__ = ["AttachmentIntake", "Place"]

# A host that never resolves (RFC 6761), so that content for the gateway can't leave the machine if the SDK's adapter
# has been replaced meanwhile.
_URL = "https://attachments.trace-guard.invalid/trace-guard/attachments/"
_REMEMBERED = 10_000

Place: TypeAlias = "tuple[WritableJournal, Courier]"
"""The journal beside which an attachment is kept, and the courier that uploads it."""


@dataclass
class _Given:
    """An attachment for which the SDK has received a URL.

    Attributes:
        spool: None if it could not be written to disk.
        settled: the content has arrived, whether or not it could be kept.
    """

    one: SpooledAttachment
    journal: WritableJournal
    courier: Courier
    spool: Spool | None
    settled: bool = False


class AttachmentIntake:
    """Keeps attachments for the gateway.

    Args:
        place_of: where one belongs that a given row refers to, or any if the row is not known; None if it can't be
            kept, as the backend takes none: then it is left to the SDK.
        places: everywhere where there may be some.

    Attributes:
        lost: how many attachments had no room and could not be uploaded at once.
    """

    def __init__(
        self, place_of: Callable[[Row | None], Place | None], places: Callable[[], Iterable[tuple[Journal, Courier]]]
    ) -> None:
        self.lost = 0
        self._place_of = place_of
        self._places = places
        # The gateway is called from any thread, and by a forked child; single operations on these are atomic.
        self._rows: OrderedDict[str, Row] = OrderedDict()
        self._given: OrderedDict[str, _Given] = OrderedDict()

    def refer(self, rows: Iterable[Row]) -> None:
        """Record which rows refer to which attachments: the SDK is about to hand over the new ones."""
        for row in rows:
            for key in _references(row):
                self._rows.setdefault(key, {name: row.get(name) for name in _IDENTITY})
        _forget_oldest(self._rows)

    def begin(self, asked: Mapping[str, Any]) -> dict[str, Any] | None:
        """The reply to ``POST /attachment``: where to put the content; None to leave it to the network."""
        key = asked.get("key")
        row = self._rows.pop(str(key), None)
        place = self._place_of(row)
        if not isinstance(key, str) or not key or place is None:
            return None
        told = {name: str(asked.get(name) or "") for name in ("filename", "content_type", "org_id")}
        root = str(row["root_span_id"]) if row and row.get("root_span_id") else None
        one = SpooledAttachment(key, told["filename"], told["content_type"], told["org_id"], root)
        journal, courier = place
        spool: Spool | None = None
        try:
            spool = journal.make_room_for_attachments()
            spool.begin(one)
        except OSError as error:
            _say_unwritable(error)
            spool = None
        self._given[key] = _Given(one, journal, courier, spool)
        _forget_oldest(self._given)
        return {"signedUrl": _URL + urllib.parse.quote(key, safe=""), "headers": {}}

    def put(self, path: str, body: object) -> bool:
        """Keep the content that the SDK puts to its URL; False if no such URL was given.

        What can't be kept, as it is larger than there ever is room for or the disk won't have it, is uploaded at
        once instead, by the thread that asks; if that fails too, or there just is no room, its status says so.
        """
        given = self._given.get(urllib.parse.unquote(path.rsplit("/", 1)[1]))
        if given is None:
            return False
        one, spool, given.settled = given.one, given.spool, True
        size = len(body) if isinstance(body, (bytes, str)) else 0
        error: str | None = None
        try:
            if spool is not None and spool.store(one, body):
                given.courier.attachments_arrived(given.journal)
                return True
            large = spool is None or size > spool.most
        except OSError as fault:
            _say_unwritable(fault)
            large = True
        if large and isinstance(body, bytes):
            error = given.courier.upload_now(_with(one, body))
            if error is None:
                if spool is not None:
                    spool.remove(one)
                return True
        self.lost += 1
        error = error or "there was no room for it on disk, as earlier ones had not been delivered yet"
        warn_once("cap:attachments", "an attachment (%s, %d bytes) is lost: %s. TRACE_GUARD_MAX_JOURNAL_BYTES says how "
                  "much may wait; attachments may take half of it", one.filename, size, error)
        self._fail(given, error)
        return True

    def conclude(self, told: Mapping[str, Any]) -> bool:
        """Handle the SDK's ``POST /attachment/status``. Returns False if the attachment is not one of ours."""
        given = self._given.pop(str(told.get("key")), None)
        if given is None:
            return False
        status = told.get("status")
        if isinstance(status, Mapping) and status.get("upload_status") == "error" and not given.settled:
            self._fail(given, str(status.get("error_message")))  # its file can't be read, most likely
        return True

    def find(self, key: str) -> dict[str, Any] | None:
        """The reply to ``GET /attachment``: where the content can be had here, and that it can; None if it can't."""
        if self._content(key) is None:
            return None
        return {"downloadUrl": _URL + urllib.parse.quote(key, safe=""), "status": {"upload_status": "done"}}

    def get(self, path: str) -> bytes | None:
        """The content behind a URL of :meth:`find`; None if it is not here any longer."""
        content = self._content(urllib.parse.unquote(path.rsplit("/", 1)[1]))
        return None if content is None else b"".join(content)

    def _content(self, key: str) -> Content | None:
        for journal, courier in self._places():
            found = journal.attachments.find(key) if journal.attachments is not None else None
            if found is not None and found.content is not None and not found.vanished:
                return found.content
            kept = courier.find_attachment(key)
            if kept is not None:
                return kept
        return None

    def _fail(self, given: _Given, error: str) -> None:
        given.courier.attachment_lost(given.one, error)
        with contain("keep word of a lost attachment"):
            (given.spool or given.journal.make_room_for_attachments()).fail(given.one, error)
        given.courier.attachments_arrived(given.journal)


_IDENTITY = ("id", "span_id", "root_span_id", "span_parents", "project_id", "experiment_id", "log_id", "metrics")


def _references(value: Any) -> Iterator[str]:
    """The keys of the attachments to which a row refers, at any depth."""
    if isinstance(value, dict):
        if value.get("type") == "braintrust_attachment" and isinstance(value.get("key"), str):
            yield value["key"]
        else:
            for one in value.values():
                yield from _references(one)
    elif isinstance(value, list):
        for one in value:
            yield from _references(one)


def _forget_oldest(memory: OrderedDict[str, Any]) -> None:
    while len(memory) > _REMEMBERED:
        memory.popitem(last=False)


def _with(one: SpooledAttachment, body: bytes) -> SpooledAttachment:
    return SpooledAttachment(**one.about, content=Content(body))


def _say_unwritable(error: OSError) -> None:
    warn_once("attachments:unwritable", "attachments can't be kept on disk (%s): they are uploaded at once", error)
