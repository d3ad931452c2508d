"""A stand-in for the hosted model APIs: their wire, classical image processing, faults on demand. Never a model."""
