"""The Auth service: the part of GoTrue that the product, its tests and newcomers use."""
