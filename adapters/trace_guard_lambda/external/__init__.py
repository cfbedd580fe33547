"""Lambda's external extension: a process of its own, which outlives the runtime and tells how that ended.

``program`` is what the layer's ``extensions/trace-guard`` runs; it takes part in the environment's life at once and
imports the rest, ``process``, while the runtime is still starting. ``link`` is the other end of the socket, in the
runtime's process.
"""
