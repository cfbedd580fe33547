"""Requests and responses under guard, whatever platform or protocol they arrive by.

In: the request, result or response body of a framework, and an opened invocation. Out: metadata and input for the root
span, and a result or body that closes and delivers its invocation just before the last byte leaves. This room keeps P1
for streamed bodies (closed on the end, an error, a cancellation or a client disconnect), P4 for HTTP (delivery before
the platform may take the CPU away, and an unchanged response), and P7 (our faults never reach the response).
"""
