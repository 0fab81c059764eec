"""The clock's door: what runs by itself. APScheduler is used here and nowhere else."""
