"""The server: who may come in, how much, and the interface for programs."""
