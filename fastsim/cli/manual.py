"""`fastsim manual`: prints the pages of the manual."""

import click

from fastsim.cli import completion
from fastsim.errors import ConfigError, did_you_mean


@click.command()
@click.argument("topic", required=False, shell_complete=completion.topics)
def manual(topic: str | None) -> None:
    """Print a page of the manual, or the list of its TOPICs."""
    pages = {path.stem: path.read_text(encoding="utf-8") for path in sorted(completion.MANUAL.glob("*.md"))}
    if topic is None:
        for name, text in pages.items():
            click.echo(f"{name:<12} {text.partition(chr(10))[0].removeprefix('# ')}")
        return
    if topic not in pages:
        raise ConfigError(f"TOPIC: no page {topic!r}; {did_you_mean(topic, pages)}")
    click.echo_via_pager(pages[topic])
