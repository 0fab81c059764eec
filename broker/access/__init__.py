"""The way in, the same for every door: who calls, what each entrance asks of its callers, what becomes of a refusal."""
