"""Rows and attachments go out.

What comes in: journals with rows, this process's own and those of dead processes (:class:`.courier.Courier`), and
attachments spooled beside them. What goes out: requests to a backend, and a verdict (``Delivery``) for each
invocation that waits. Rows and attachments that the backend refuses for good become dead letters. The promises kept
here: a delivery never outlasts its deadline, and a backend that is down costs a healthy function nothing (P4); what is
not acknowledged stays in the journal and is sent again, in order for each span, until it arrives (P5).
"""
