"""Oblivious transfer.

random_ot.py    what protocols draw: random OTs, each used once
transfer.py     products of bits and words from them
supply.py       `set_up_ots`: a party's supply of them, made with the other party
base_ot.py      the first ones, from elliptic curves
softspoken.py   OT extension from symmetric cryptography alone
ferret.py       silent OT: millions from a few, under an assumption on LPN
correlated.py   correlated OTs, which random ones are hashed from
"""
