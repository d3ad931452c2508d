"""Job queues on Postgres doing the same provider calls, without storage and without checkpoints."""
