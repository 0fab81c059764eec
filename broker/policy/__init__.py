"""Is it acceptable now? A bundle of Cedar policies, asked about one situation at a time. Pure: no I/O but `load`."""
