"""UTF-8 bytes -> tokens, n-gram hashes, MinHash signatures: the hot code. Import its modules lazily (numba is heavy)."""
