"""What one process has: a pipeline for each destination, the watchdog, signals, recovery at the start, and the status.

Rows of the SDK and of invocations come in, and the pipeline of their own credentials takes them to its journal and its
courier. This room keeps P3 for a process as a whole (orphans of dead processes are closed, signals close what is open)
and P4 (every wait at a flush, a signal or the exit has a deadline).
"""
