"""The wire protocols of model servers: endpoints, messages and the calls every room needs."""
