"""Repair: traces that are stuck already are found, explained and closed (P6).

Rows of open spans come in from Braintrust or the local store, window by window. Closing rows go out, as for every
other failure (:func:`trace_guard.rows.closing_row`). Only what an open trace needs is kept in memory.
"""
