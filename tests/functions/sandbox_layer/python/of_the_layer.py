"""A module that a function with this layer imports."""

WORD = "from a layer"
