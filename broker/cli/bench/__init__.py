"""What `credbroker bench` measures with."""
