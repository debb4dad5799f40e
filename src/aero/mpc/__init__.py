"""Secure two-party computation: shares of numbers, and protocols on shares.

    fixed_point.py   real numbers as integers modulo 2^l
    party.py         one side of a computation: its channel, its randomness, its keys
    share.py         [x]: additive shares, what is local on them, and `open_shares`, the only place that reveals
    cost.py, work.py what a protocol declares: bytes each way, rounds, messages; and what it computes
    protocols/       agree.py, keys.py (once, or anew)   linear.py (weights times shares)  pair.py (shares times shares)
                     compare.py  select.py (AND, multiplexers)  extend.py (into larger rings)
                     multiply.py (products and tables, for few numbers)
    ot/              oblivious transfers, and products of bits and words
    functions/       nonlinear functions of a model: softmax, ReLU, GELU, norms
    dealer.py        a trusted third party, for tests alone

Semi-honest security, 128-bit computational and 40-bit statistical, but for the opened product of a graph, where an
assumption on RLWE with hints stands in for statistics; docs/security/ has the arguments. Not audited.
"""
