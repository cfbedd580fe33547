"""The doctor: settings and this machine come in; findings go out, each with what to do (P6).

It looks for what makes traces hang or go missing here and now. It changes nothing, and sends a trace only if asked to.
"""
