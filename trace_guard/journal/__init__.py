"""The append-only file of rows on local disk. Rows from the SDK and the guard come in; the courier reads them from here
and acknowledges what the backend has. Keeps promise P3: nothing is delivered before it is in the journal, so a process
that dies at any moment leaves enough on disk to close every span that Braintrust has seen.
"""
