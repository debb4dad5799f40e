"""The Shannon entropy of attention heads: measured, recorded, drawn, and used as a regulariser."""
