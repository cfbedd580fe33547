"""Lambda's external extension: a separate process that outlives the runtime and closes the traces that it left open.

The layer's ``extensions/trace-guard`` runs ``program``, which registers at once and imports ``process`` while the
runtime is still starting. ``link`` is the other end of the socket, in the runtime's process. Messages about events and
journals come in over the socket. Rows from those journals go out to the backend.
"""
