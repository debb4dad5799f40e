"""The engine's arithmetic, bound from C++ (`csrc/`), one module per kernel family.

    prg         pseudorandom streams (AES-128 in counter mode) and sampling from them
    bitpack     unsigned integers packed to any width
    ring        matrix products modulo 2^64
    block_hash  the tweaked hash for oblivious transfer, and bit-matrix transposition
    ot          the inner loops of oblivious transfer
    ntt         the negacyclic number-theoretic transform
    rlwe        RLWE encryption: parameters, keys, ciphertexts
    lattice_matmul  encrypted matrix times plaintext matrix, into shares
    lattice_noise   how far those shares may be off
    native      which instruction set is in use, and how to force one

`reference/` defines each kernel in plain NumPy; the tests hold every instruction set to it, byte for byte.
`docs/understand/kernels.md` says what each kernel computes and which of them run in constant time.
"""
