"""Computations that several checks share: the engine runs each once."""
