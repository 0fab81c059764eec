"""The way to a broker: where it is, as whom to call it, and an answer over connections that break."""
