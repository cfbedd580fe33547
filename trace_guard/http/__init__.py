"""What adapters do alike with requests and responses, whatever brings them: facts, content, streamed bodies."""
