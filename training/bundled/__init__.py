"""Makes the bundled weights: what they learn from is put together out of footage, pictures and rendered people."""
