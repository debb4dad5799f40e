"""Two processes that do not trust each other with their secrets: a server with weights, a client with text."""
