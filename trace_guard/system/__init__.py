"""The operating system and the interpreter as this package may rely on them.

Programs freeze clocks in tests, raise from signal handlers, wait for signals in threads, and run where calls are
missing. These modules keep that from reaching the rooms above: a clock, threads, events, and the rule that tells a time
limit from a fault (P7).
"""
