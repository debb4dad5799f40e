"""Oblivious transfer.

random_ot.py   what protocols draw: random OTs, each used once
"""
