"""The engine: the one loop, what feeds it, what it computes in, and what it leaves so that nothing is lost."""
