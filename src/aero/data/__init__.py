"""Text to token ids: documents, a byte-level tokenizer, memory-mapped shards, the order in which training reads them.

Only `loader` needs torch.
"""
