"""What one process has: a pipeline per destination, the watchdog, signals, recovery and status."""
