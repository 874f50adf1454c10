"""The process that serves: one event loop, and the rules of who gets which slot."""
