"""Rows come in from the Braintrust SDK. The gateway answers the SDK's requests and hands its rows to the journal."""
