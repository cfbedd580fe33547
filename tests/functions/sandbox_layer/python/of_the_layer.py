"""Is imported by a function that has this layer."""

WORD = "from a layer"
