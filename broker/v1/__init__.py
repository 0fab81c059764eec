"""Generated from protos/broker/v1 by `make protos`; never edited."""
