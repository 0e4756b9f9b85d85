"""Recovery points: catalogue, lifecycle, holds; gives what can be restored, and until when."""
