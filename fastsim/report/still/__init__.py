"""Pictures as files that need no browser: SVG and PNG."""
