"""One guarded unit of work: a Lambda invocation, an HTTP request, an event, or a run of a job.

In: a guard, the keywords of the invocation, and what user code returns or raises. Out: the start row of the root span,
which is in the journal before user code runs; a closing row for each span that the invocation owns; and one delivery
within the deadline. This room keeps P1 (one root span, closed however the code ends), P2 (no span stays open) and P7
(our faults never reach user code), and its part of P4 (delivery ends in time).
"""
