"""One HTML file that needs no network: its sections, figures and colours."""
