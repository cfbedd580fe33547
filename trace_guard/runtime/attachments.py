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
from typing import TYPE_CHECKING, Any, NamedTuple

from ..contain import contain, warn_once
from ..journal.attachments import Spool
from ..journal.row_facts import NewRow
from ..journal.spooled import Content, SpooledAttachment

if TYPE_CHECKING:
    from ..delivery.courier import Courier
    from ..journal.base import Journal, WritableJournal
    from .pipeline import Pipeline

__all__ = ["AttachmentIntake"]

# A host that never resolves (RFC 6761), so that content for the gateway can't leave the machine if the SDK's adapter
# has been replaced meanwhile.
_URL = "https://attachments.trace-guard.invalid/trace-guard/attachments/"
_REMEMBERED = 10_000


class _Reference(NamedTuple):
    """A row that refers to an attachment: its trace, and the destination of both.

    Attributes:
        org_id: the destination's organisation; None for that of the SDK's request.
    """

    root: str | None
    pipeline: Pipeline
    org_id: str | None


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
        default: the destination of one whose row is not known.
        places: everywhere where there may be some.

    Attributes:
        lost: how many attachments had no room and could not be uploaded at once.
    """

    def __init__(
        self, default: Callable[[], Pipeline | None], places: Callable[[], Iterable[tuple[Journal, Courier]]]
    ) -> None:
        self.lost = 0
        self._default = default
        self._places = places
        # The gateway is called from any thread, and by a forked child; single operations on these are atomic.
        self._references: OrderedDict[str, _Reference] = OrderedDict()
        self._given: OrderedDict[str, _Given] = OrderedDict()

    def refer(self, rows: Iterable[NewRow], pipeline: Pipeline, org_id: str | None = None) -> None:
        """Record which attachments rows refer to that went to this pipeline: the SDK is about to hand over the new
        ones.

        Args:
            org_id: the organisation to keep them for, empty to look it up; None for that of the SDK's login.
        """
        for new in rows:
            row = new.row
            root = str(row["root_span_id"]) if row.get("root_span_id") else None
            for key in _references(row):
                self._references.setdefault(key, _Reference(root, pipeline, org_id))
        _forget_oldest(self._references)

    def begin(self, asked: Mapping[str, Any]) -> dict[str, Any] | None:
        """The reply to ``POST /attachment``: where to put the content; None to leave it to the network, as the backend
        takes none."""
        key = asked.get("key")
        reference = self._references.pop(str(key), None)
        pipeline = reference.pipeline if reference is not None else self._default()
        if not isinstance(key, str) or not key or pipeline is None or not pipeline.courier.takes_attachments:
            return None
        filename, content_type, org_id = (str(asked.get(name) or "") for name in ("filename", "content_type", "org_id"))
        if reference is not None and reference.org_id is not None:
            org_id = reference.org_id
        root = reference.root if reference is not None else None
        one = SpooledAttachment(key, filename, content_type, org_id, root)
        journal, courier = pipeline.journal(), pipeline.courier
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
