"""The linter: Python source comes in; findings go out, each with its place, the reason and the fix (P6).

It finds code that leaves spans open or undelivered. It reports only what it is certain of: a span that is handed on
belongs to somebody else. It never runs the code that it reads, and changes a file only with ``--fix``.
"""
