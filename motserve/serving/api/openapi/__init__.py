"""What the OpenAPI document says beside what FastAPI reads from the routes: shared schemas, headers and links."""
