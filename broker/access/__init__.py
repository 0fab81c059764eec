"""The way in, the same for every door: who calls, what each entrance asks of its callers, what becomes of a refusal.

A door's pipeline calls, in this order, and no handler does:

1. `presented`: what proves who calls is parsed, from the connection, metadata, headers or a form;
2. `authentication`: it makes a principal of that;
3. `entrances`: the line of the way in says whether this principal may come;
4. `refusals`: whatever is refused, here or behind the door, is logged, and recorded or counted, before it is told.
"""
