"""What container components run in their pods: executor input in, one call of a room, outputs out."""
