"""Redaction: text and keys come in, the same text without secrets goes out.

:class:`.secret_keys.SecretKeys` decides which keys name a secret. :class:`.text_redactor.TextRedactor` and
:class:`.captured_text.CapturedText` clean what is captured on spans, for :class:`trace_guard.payload.Payload`.
:func:`.outside_text.printable` cleans everything that is written to logs, terminals and error messages.
All of them take time that grows linearly with the text, and none of them raises (P7).
"""
