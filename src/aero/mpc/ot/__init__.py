"""Oblivious transfer.

random_ot.py   what protocols draw: random OTs, each used once
transfer.py    products of bits and words from them
"""
