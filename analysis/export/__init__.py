"""Results for other programs. One file a format."""
