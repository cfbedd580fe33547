"""Where rows go: Braintrust, a local SQLite file, or memory."""
