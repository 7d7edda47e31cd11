"""One HTML file without a network: its sections, figures and colours."""
