"""Servers that answer for a model: what each kind of them takes, and one client for all."""
