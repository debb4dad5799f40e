"""Files and folders that are whole: they appear in one step, say their own hashes, and have one writer at a time."""
