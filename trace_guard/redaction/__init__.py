"""Redaction: text and keys come in, the same text without secrets goes out.

:class:`.secret_keys.SecretKeys` decides which keys name a secret, and :mod:`.shapes` knows what credentials look like.
:class:`.text_redactor.TextRedactor` and :class:`.captured_text.CapturedText` clean what spans capture, for
:class:`trace_guard.payload.Payload`. :func:`.outside_text.printable` cleans everything that is written to logs,
terminals and error messages. The time is linear in the length of the text, and nothing here raises (P7).
"""
