"""What is on disk, as frozen pydantic models: constraints, profiles, plans, engine manifests."""
