"""credbroker: an ephemeral credential broker for AI agents.

Three questions, a room each: who is it (`identity`), what is it trying to do (`intent`), is that acceptable now
(`policy`). One life: `lease`. One proof: `audit`.
"""
