"""Mesa models that use mesa_meanfield."""
