"""SecretFlow SPU as an engine: `engine` needs neither SPU nor JAX, `worker` and `program` do."""
