"""The only room that touches the inside of the Braintrust SDK.

Rows of the SDK's queue and its HTTP requests come in; rows for the journal, answers to the SDK, and the guard's own
spans go out. This room keeps P3 on the way in (no row reaches the network before it is in the journal) and P7 (the SDK
behaves as it does without the guard).
"""
