"""The local page: traces of the local store, or of Braintrust, come in; HTML goes out, on loopback only.

It reads and never writes, except that a stuck trace can be closed from the health page (P6). Everything in a trace is
hostile text: it is escaped, and no script but the page's own runs.
"""
