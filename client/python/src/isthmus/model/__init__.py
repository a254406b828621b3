"""What the hub answers with, as dataclasses."""
