"""Who is it? Evidence to principals. Nothing else in the broker makes one."""
