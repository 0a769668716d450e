"""Tokens one after another: options, sampling, the engine, completion."""
