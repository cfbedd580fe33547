"""One guarded unit of work: it opens a root span, closes every span of its own, and delivers."""
