"""Backends: encoded rows come in, and are stored in Braintrust, in a local SQLite file, or in memory.

Every backend implements :class:`.base.Backend`. Sending rows twice changes nothing, and every call ends with its
deadline (P4, P5). The room also finds out project ids, and summarises stored rows for people.
"""
