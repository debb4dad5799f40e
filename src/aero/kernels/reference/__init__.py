"""What each kernel computes, in NumPy: the definition that every native variant is tested against.

Written to be read, not to be fast. The files are named as the modules one level up.
"""
