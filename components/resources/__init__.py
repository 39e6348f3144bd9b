"""What the servers were busy with while they were loaded: CPU, memory, GPU, queues, replicas."""
