"""Our own protocols as an engine."""
