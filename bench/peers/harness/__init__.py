"""The harness of bench/peers: other job queues on PostgreSQL beside this one, in one run."""
