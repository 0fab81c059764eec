"""Attaches credentials to the calls of clients that people have already.

Each module is imported by itself, as not everybody has the packages: `httpx`, `httpx2`, `grpc`, `langchain` and
`openai_agents`.
"""
